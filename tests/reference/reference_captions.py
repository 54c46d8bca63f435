"""Lets the reference caption pictures of held-out scenes and keeps the pictures and captions.

The reference is `transformers`' BlipForConditionalGeneration, in f32 on a CPU, one picture at a time,
greedily, once without a prompt and once with one.

    python tests/reference/reference_captions.py     # models/demo-caption -> tests/reference/data/demo_caption_reference.json.gz

The file: `prompt` and its `prompt_token_ids` without special tokens; `scenes`, each a `png` in base64, its
`truth`, and `plain` and `prompted`: `token_ids` (after the start token and the prompt; stop token included),
`text` (of the whole sequence, prompt included), `score` (sum of the chosen tokens' log-probabilities) and
`margin` (the smallest lead, in logits, of a chosen token over the next best).
"""

import argparse
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipImageProcessorPil

import reference_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo import captions, evaluation  # noqa: E402

PROMPT = captions.PROMPTS[0]


@torch.no_grad()
def caption(model, tokenizer, pixels, prompt):
    """What `generate` writes with its own defaults, as the file has it."""
    asked = tokenizer(prompt, return_tensors="pt").input_ids if prompt else None
    given = 1 if asked is None else asked.shape[1] - 1
    out = model.generate(pixel_values=pixels, input_ids=asked, return_dict_in_generate=True, output_logits=True)
    (answer,) = evaluation.answers_of(out, given, model.config.text_config.sep_token_id)
    # The tokenizer does not know [DEC], the start token.
    text = tokenizer.decode(out.sequences[0, 1:], skip_special_tokens=True)
    return {"token_ids": list(answer.ids), "text": text, "score": round(answer.score, 5), "margin": round(answer.margin, 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=ROOT / "models/demo-caption")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/reference/data/demo_caption_reference.json.gz")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = BlipForConditionalGeneration.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(options.model)
    tokenizer = AutoTokenizer.from_pretrained(options.model)

    made = []
    for picture, found in reference_file.pictures("caption reference", options.scenes):
        pixels = processor(picture, return_tensors="pt").pixel_values
        made.append({
            "png": reference_file.png(picture),
            "truth": captions.write(captions.phrases(found)),
            "plain": caption(model, tokenizer, pixels, None),
            "prompted": caption(model, tokenizer, pixels, PROMPT),
        })  # fmt: skip
    prompt_ids = tokenizer(PROMPT, add_special_tokens=False).input_ids
    size = reference_file.write(options.out, options.model, {"prompt": PROMPT, "prompt_token_ids": prompt_ids, "scenes": made})
    plain = sum(one["plain"]["text"] == one["truth"] for one in made)
    prompted = sum(one["prompted"]["text"] == f"{PROMPT} {one['truth']}" for one in made)
    margin = min(one[way]["margin"] for one in made for way in ("plain", "prompted"))
    print(f"{len(made)} scenes: {plain} captions exact, {prompted} with the prompt; smallest margin {margin:.3f}; "
          f"{size / 1e3:.0f} kB to {options.out}")  # fmt: skip


if __name__ == "__main__":
    main()
