"""Writes the golden files of question answering: crates/blip/tests/goldens/NAME/.

Each folder holds a small random BLIP checkpoint in the Hugging Face layout, some images, and what
`transformers` computes from it for each question alone (batch of one, no padding):

    expected.json          image, question, score and end of each case
    expected.safetensors   caseN.pixel_values    [3, size, size]      f32
                           caseN.input_ids       [tokens]             i64
                           caseN.image_embeds    [patches + 1, width] f32
                           caseN.question_states [tokens, width]      f32
                           caseN.step_logits     [steps, vocabulary]  f32
                           caseN.generated_ids   [steps + 1]          i64, start token first

    python tests/reference/generate/goldens.py
    python tests/reference/generate/goldens.py --only untied_head --out /tmp/goldens
"""

import argparse
import random
import shutil
from pathlib import Path

import numpy
import torch
from PIL import __version__ as pillow_version
from safetensors.torch import save_file
from transformers import BlipForQuestionAnswering, BlipImageProcessorPil
from transformers import __version__ as transformers_version

from golden_cases import CASES
from golden_checkpoint import (
    GOLDENS,
    random_images,
    random_question,
    smallest_margin,
    write_checkpoint,
    write_json,
)


def answer(model, pixel_values, input_ids, limits):
    """Returns the intermediate results and the answer of the reference for one question."""
    generated = model.generate(
        input_ids=input_ids,
        pixel_values=pixel_values,
        return_dict_in_generate=True,
        output_logits=True,
        **limits,
    )
    image_embeds = model.vision_model(pixel_values).last_hidden_state
    question_states = model.text_encoder(input_ids, encoder_hidden_states=image_embeds).last_hidden_state
    return {
        "image_embeds": image_embeds[0],
        "question_states": question_states[0],
        "step_logits": torch.cat(generated.logits),
        "generated_ids": generated.sequences[0],
    }


def check(model, case, stop):
    """Checks that the recorded logits lead to the recorded answer. Returns the smallest margin.

    The decoder computes the whole answer at once, without a cache, from the recorded question
    states. The best token of each step must be the one that `generate` chose, by a clear margin.
    """
    ids = case["generated_ids"]
    logits = model.text_decoder(
        ids[None, :-1], encoder_hidden_states=case["question_states"][None], is_decoder=True, use_cache=False
    ).logits[0]
    torch.testing.assert_close(logits, case["step_logits"], rtol=1e-4, atol=1e-4)
    assert torch.equal(logits.argmax(-1), ids[1:]), "greedy steps do not reproduce generate()"
    margin = smallest_margin(logits)
    assert stop not in ids[1:-1], "the answer continues after the stop token"
    return margin


@torch.no_grad()
def write(golden, folder):
    """Writes the folder of one `Golden`. Returns its cases."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, words = write_checkpoint(golden, folder)
    model = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    stop = model.config.text_config.sep_token_id
    rng = random.Random(golden.seed)
    images = list(random_images(numpy.random.default_rng(golden.seed)))
    for i, image in enumerate(images):
        image.save(folder / f"image{i}.png", optimize=True)

    tensors, cases = {}, []
    for i, length in enumerate(golden.lengths):
        image = i % len(images)
        text = random_question(tokenizer, words, length, rng)
        input_ids = torch.tensor([tokenizer.encode(text).ids])
        pixel_values = processor(images[image], return_tensors="pt").pixel_values
        case = answer(model, pixel_values, input_ids, golden.generation or {})
        margin = check(model, case, stop)
        ids = case["generated_ids"]
        log_probabilities = case["step_logits"].double().log_softmax(-1)
        score = float(log_probabilities.gather(1, ids[1:, None]).sum())
        case |= {"pixel_values": pixel_values[0], "input_ids": input_ids[0]}
        tensors |= {f"case{i}.{key}": value.contiguous() for key, value in case.items()}
        cases.append(
            {
                "image": f"image{image}.png",
                "question": text,
                "question_tokens": length,
                "answer": tokenizer.decode([int(t) for t in ids if t < tokenizer.get_vocab_size()]),
                "steps": len(ids) - 1,
                "stopped": int(ids[-1]) == stop,
                "score": score,
                "smallest_margin": margin,
            }
        )
    save_file(tensors, folder / "expected.safetensors")
    write_json(
        folder / "expected.json",
        {
            "transformers": transformers_version,
            "torch": torch.__version__.split("+")[0],
            "pillow": pillow_version,
            "seed": golden.seed,
            "stop_token_id": stop,
            "cases": cases,
        },
    )
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDENS, help="folder of the golden folders")
    parser.add_argument("--only", help="name of one golden folder")
    options = parser.parse_args()
    assert int(pillow_version.split(".")[0]) < 13, "Pillow 13 scales tall images in another order"
    torch.set_num_threads(1)  # the order of additions is the same on every machine

    steps, stopped = set(), set()
    for golden in CASES:
        if options.only in (None, golden.name):
            cases = write(golden, options.out / golden.name)
            steps |= {case["steps"] for case in cases}
            stopped |= {case["stopped"] for case in cases}
            size = sum(path.stat().st_size for path in (options.out / golden.name).iterdir())
            print(
                f"{golden.name:16} {size / 1e3:7.0f} kB  steps {[c['steps'] for c in cases]}"
                f"  stopped {[int(c['stopped']) for c in cases]}"
            )
    if options.only is None:
        assert len(steps) >= 4 and stopped == {True, False}, "answers do not differ in length and end"


if __name__ == "__main__":
    main()
