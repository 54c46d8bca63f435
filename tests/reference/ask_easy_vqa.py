"""Asks a running server every question of easy-vqa's test split and compares the answers.

It needs only `easy-vqa`, `grpcio`, `grpcio-reflection` and `protobuf`. The message types come from
the server's reflection. Each request carries one image with all its questions. Many requests are in
flight at once. The script prints one table. It exits with 1 in these cases:

* Less than 99 % of the answers are correct.
* A question failed.
* An answer differs from the reference, and the reference was not nearly tied.

    blip-serve serve --answer-cache-bytes 0 &
    python tests/reference/ask_easy_vqa.py --server 127.0.0.1:50051
"""

import argparse
import asyncio
import gzip
import json
import sys
import time
from pathlib import Path

import grpc

import reflection

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo.data import easy_vqa_set  # noqa: E402

REFERENCE = ROOT / "tests/reference/data/easy_vqa_reference.json.gz"
SERVICE = "blip.v1.BlipService"


async def ask(address, paths, questions, in_flight, timeout):
    """Returns the response to each question: an answer or an error."""
    with reflection.connect(address) as channel:
        service = reflection.ReflectedService(channel, SERVICE)
        request_class = service.message("Ask")
    by_image = [[] for _ in paths]
    for position, question in enumerate(questions):
        by_image[question.image].append(position)
    outcomes = [None] * len(questions)
    slots = asyncio.Semaphore(in_flight)

    async with reflection.connect(address, grpc.aio) as channel:
        call = service.stream("Ask", channel)

        async def ask_image(path, positions):
            request = request_class()
            entry = request.inputs.add()
            entry.image.data = Path(path).read_bytes()
            for position in positions:
                entry.questions.add().text = questions[position].text
            async with slots:
                async for response in call(request, timeout=timeout):
                    outcomes[positions[response.question_index]] = response

        await asyncio.gather(*(ask_image(path, at) for path, at in zip(paths, by_image, strict=True) if at))
    return outcomes


def compare(outcomes, questions, reference, near_tie):
    """Counts correct answers and differences from the reference."""
    counts = dict.fromkeys(("right", "wrong", "errors", "equal", "near ties", "different"), 0)
    largest, examples = 0.0, []
    for position, (outcome, question) in enumerate(zip(outcomes, questions, strict=True)):
        if outcome is None or outcome.WhichOneof("outcome") != "answer":
            counts["errors"] += 1
            examples.append(f"{question.text}: {outcome.error.message if outcome else 'no answer'}")
            continue
        answer = outcome.answer
        counts["right" if answer.text == question.answer else "wrong"] += 1
        which, score, margin = reference["given"][position]
        if list(answer.token_ids) == reference["answers"][which]["token_ids"]:
            counts["equal"] += 1
            largest = max(largest, abs(answer.score - score))
        elif margin < near_tie:
            counts["near ties"] += 1
        else:
            counts["different"] += 1
            expected = reference["answers"][which]["text"]
            examples.append(f"{question.text}: {answer.text!r}, the reference {expected!r} (margin {margin})")
    return counts, largest, examples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--in-flight", type=int, default=64, help="concurrent requests")
    parser.add_argument("--timeout", type=float, default=600.0, help="timeout of a request in seconds")
    parser.add_argument("--images", type=int, help="number of images to ask about [default: all]")
    parser.add_argument(
        "--min-accuracy", type=float, default=0.99, help="fraction of correct answers required"
    )
    parser.add_argument(
        "--near-tie",
        type=float,
        default=0.0,
        help="accept a difference below this margin of the reference, for f16 and bf16",
    )
    options = parser.parse_args()
    reference = json.loads(gzip.decompress(options.reference.read_bytes()))
    paths, questions = easy_vqa_set.load()
    selected = [i for i, q in enumerate(questions) if options.images is None or q.image < options.images]
    questions = [questions[i] for i in selected]
    reference["given"] = [reference["given"][i] for i in selected]

    start = time.monotonic()
    outcomes = asyncio.run(ask(options.server, paths, questions, options.in_flight, options.timeout))
    seconds = time.monotonic() - start
    counts, largest, examples = compare(outcomes, questions, reference, options.near_tie)
    accuracy = counts["right"] / len(questions)

    for example in examples[:10]:
        print(example, file=sys.stderr)
    print(f"{'questions':34} {len(questions):8}")
    print(f"{'correct':34} {counts['right']:8}  {accuracy:.2%}")
    print(f"{'wrong':34} {counts['wrong']:8}")
    print(f"{'errors':34} {counts['errors']:8}")
    print(f"{'token ids equal to the reference':34} {counts['equal']:8}")
    print(f"{'unequal, reference nearly tied':34} {counts['near ties']:8}")
    print(f"{'unequal':34} {counts['different']:8}")
    print(f"{'largest difference of scores':34} {largest:8.1e}")
    print(f"{'seconds':34} {seconds:8.1f}  {len(questions) / seconds:.0f} questions/s")
    return 0 if accuracy >= options.min_accuracy and not counts["errors"] and not counts["different"] else 1


if __name__ == "__main__":
    sys.exit(main())
