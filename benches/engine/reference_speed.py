"""Times the reference, `transformers`' BlipForQuestionAnswering, on a checkpoint folder.

The script measures `generate` on tensors that are already on the device, without decoding, scaling
or tokenizing:

* one question per image, at the fastest batch size
* six questions per image, at the fastest batch size
* a single question

As is usual with `transformers`, an image with six questions occurs six times in the batch, and
questions are padded to the longest of the batch.

    python benches/engine/reference_speed.py --model /tmp/blip-full --device cuda --dtype f16

It prints progress to stderr and one JSON object to stdout or to the file of `--out`. The file is
written again after each part.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer, BlipForQuestionAnswering

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
QUESTIONS = (
    "what color is the car?",
    "how many people are standing in front of the building?",
    "is there a dog in the picture?",
    "what is the man on the left holding?",
    "where is the cat?",
    "what kind of food is on the plate next to the glass?",
)


class Reference:
    """The model, and batches of random images with questions."""

    def __init__(self, folder, device, dtype, answer_tokens):
        self.device = torch.device(device)
        self.model = (
            BlipForQuestionAnswering.from_pretrained(folder, dtype=DTYPES[dtype]).eval().to(self.device)
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.dtype = DTYPES[dtype]
        self.answer_tokens = answer_tokens
        self.generator = torch.Generator(self.device).manual_seed(0)

    def batch(self, size, per_image):
        """Returns the inputs of `size` questions with `per_image` questions per image."""
        side = self.model.config.vision_config.image_size
        shape = (-(-size // per_image), 3, side, side)
        images = torch.randn(shape, generator=self.generator, device=self.device, dtype=self.dtype)
        images = images.repeat_interleave(per_image, 0)[:size]
        texts = [QUESTIONS[i % len(QUESTIONS)] for i in range(size)]
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        return {
            "pixel_values": images,
            "input_ids": tokens.input_ids,
            "attention_mask": tokens.attention_mask,
        }

    def seconds(self, batch, budget):
        """Returns the median seconds and the steps of `generate`, repeated within a budget."""
        times = []
        while len(times) < 2 or (sum(times) < budget and len(times) < 50):
            self._synchronize()
            start = time.perf_counter()
            out = self.model.generate(**batch, max_new_tokens=self.answer_tokens)
            self._synchronize()
            times.append(time.perf_counter() - start)
        # The first call is a warm-up.
        return statistics.median(times[1:]), out.shape[1] - 1

    def _synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def best_batch(reference, per_image, smallest, largest, budget):
    """Doubles the batch until the rate stops rising or memory is exhausted. Returns all sizes."""
    tried, without_gain = [], 0
    size = per_image * max(1, smallest // per_image)
    while size <= largest and without_gain < 2:
        try:
            seconds, steps = reference.seconds(reference.batch(size, per_image), budget)
        except torch.OutOfMemoryError:
            break
        rate = size / seconds
        print(f"batch {size:5}: {seconds:8.4f} s, {rate:9.1f} questions/s", file=sys.stderr, flush=True)
        has_gain = not tried or rate >= 1.03 * max(t["questions_per_second"] for t in tried)
        without_gain = 0 if has_gain else without_gain + 1
        tried.append({"batch": size, "questions_per_second": rate, "seconds": seconds, "decode_steps": steps})
        size *= 2
    return {"best": max(tried, key=lambda t: t["questions_per_second"], default=None), "tried": tried}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="checkpoint folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--answer-tokens", type=int, default=20, help="maximum tokens of an answer")
    parser.add_argument("--out", type=Path, help="file for the results")
    parser.add_argument("--smallest-batch", type=int, default=1)
    parser.add_argument("--largest-batch", type=int, default=1024)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds for each batch size")
    options = parser.parse_args()
    reference = Reference(options.model, options.device, options.dtype, options.answer_tokens)
    single, steps = reference.seconds(reference.batch(1, 1), options.budget)
    limits = options.smallest_batch, options.largest_batch, options.budget

    def write(result):
        text = json.dumps(result, indent=2) + "\n"
        if options.out:
            options.out.write_text(text)
        return text

    result = {
        "reference": f"transformers {transformers.__version__}, torch {torch.__version__}",
        "device": torch.cuda.get_device_name() if reference.device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": options.dtype,
        "attention": reference.model.config._attn_implementation,
        "single_question_seconds": single,
        "single_question_decode_steps": steps,
    }
    for name, per_image in (("one_question_per_image", 1), ("six_questions_per_image", 6)):
        write(result)
        result[name] = best_batch(reference, per_image, *limits)
    text = write(result)
    if not options.out:
        print(text, end="")


if __name__ == "__main__":
    main()
