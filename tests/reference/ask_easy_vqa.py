"""Asks a running server every question of easy-vqa's test split and compares.

Needs only `grpcio`, `grpcio-reflection` and `protobuf`: what to send is learnt from the server.
Each request carries one picture with all its questions, many requests in flight at once. Prints
one table; the exit code is 1 if fewer than 99 % are right, if any question got an error, or if an
answer differs from the reference's while the reference was not in two minds itself.

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
from demo import easy_vqa_set  # noqa: E402

REFERENCE = ROOT / "tests/reference/data/easy_vqa_reference.json.gz"
SERVICE = "blip.v1.BlipService"


async def ask(address, paths, questions, in_flight, timeout):
    """The answer message, or the error message, that each question got."""
    with reflection.connect(address) as channel:
        service = reflection.ReflectedService(channel, SERVICE)
        request_class = service.message("Ask")
    by_picture = [[] for _ in paths]
    for position, question in enumerate(questions):
        by_picture[question.picture].append(position)
    outcomes = [None] * len(questions)
    slots = asyncio.Semaphore(in_flight)

    async with reflection.connect(address, grpc.aio) as channel:
        call = service.stream("Ask", channel)

        async def ask_picture(path, positions):
            request = request_class()
            one = request.inputs.add()
            one.image.data = Path(path).read_bytes()
            for position in positions:
                one.questions.add().text = questions[position].text
            async with slots:
                async for response in call(request, timeout=timeout):
                    outcomes[positions[response.question_index]] = response

        await asyncio.gather(*(ask_picture(path, at) for path, at in zip(paths, by_picture, strict=True) if at))
    return outcomes


def compare(outcomes, questions, reference, near_tie):
    """Counts what is right and what differs from the reference."""
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
            wanted = reference["answers"][which]["text"]
            examples.append(f"{question.text}: {answer.text!r}, the reference {wanted!r} (margin {margin})")
    return counts, largest, examples


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--in-flight", type=int, default=64, help="requests at a time")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for one request")
    parser.add_argument("--pictures", type=int, help="ask about the first few pictures only")
    parser.add_argument("--least", type=float, default=0.99, help="the share that has to be right")
    parser.add_argument("--near-tie", type=float, default=0.0,
                        help="excuse a difference where the reference led by fewer logits, for f16 and bf16")  # fmt: skip
    options = parser.parse_args()
    reference = json.loads(gzip.decompress(options.reference.read_bytes()))
    paths, questions = easy_vqa_set.load()
    wanted = [i for i, q in enumerate(questions) if options.pictures is None or q.picture < options.pictures]
    questions = [questions[i] for i in wanted]
    reference["given"] = [reference["given"][i] for i in wanted]

    begun = time.monotonic()
    outcomes = asyncio.run(ask(options.server, paths, questions, options.in_flight, options.timeout))
    seconds = time.monotonic() - begun
    counts, largest, examples = compare(outcomes, questions, reference, options.near_tie)
    share = counts["right"] / len(questions)

    for example in examples[:10]:
        print(example, file=sys.stderr)
    print(f"{'questions':34} {len(questions):8}")
    print(f"{'right':34} {counts['right']:8}  {share:.2%}")
    print(f"{'wrong':34} {counts['wrong']:8}")
    print(f"{'errors':34} {counts['errors']:8}")
    print(f"{'token ids equal to the reference':34} {counts['equal']:8}")
    print(f"{'unequal, reference nearly tied':34} {counts['near ties']:8}")
    print(f"{'unequal':34} {counts['different']:8}")
    print(f"{'largest difference of scores':34} {largest:8.1e}")
    print(f"{'seconds':34} {seconds:8.1f}  {len(questions) / seconds:.0f} questions a second")
    return 0 if share >= options.least and not counts["errors"] and not counts["different"] else 1


if __name__ == "__main__":
    sys.exit(main())
