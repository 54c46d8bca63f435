"""Writes the reference results for images of held-out scenes: captions, or judgements of texts.

The reference is `transformers` in f32 on a CPU, with one image or one pair at a time, so that
nothing is padded. The files contain the images.

    python tests/reference/reference_scenes.py --task caption
    python tests/reference/reference_scenes.py --task match

They write data/demo_caption_reference.json.gz and data/demo_match_reference.json.gz.

The file of `caption` has `prompt`, its `prompt_token_ids` without special tokens, and `scenes`.
Each scene has a `png` in base64, its `truth`, and the results `plain` and `prompted`:

    token_ids   ids after the start token and the prompt, stop token included
    text        text of the whole sequence, prompt included
    score       sum of the log-probabilities of the chosen tokens
    margin      smallest lead, in logits, of a chosen token over the next best

The file of `match` has `scenes`. Each scene has a `png` and two `texts`. The first text is true,
the second is false by one word:

    text, matches           the text, and whether it is true
    probability, logits     results of the matching head; the logits are those of no and yes
    cosine                  cosine of the embeddings
"""

import argparse
import random
import sys
from pathlib import Path

import torch
from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipForImageTextRetrieval
from transformers import BlipImageProcessorPil

import reference_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "models/training"))
from demo.data import captions, match_texts  # noqa: E402
from demo.evaluation import generation  # noqa: E402

PROMPT = captions.PROMPTS[0]


def caption(model, tokenizer, pixels, prompt):
    """Returns the result of `generate` with its defaults."""
    input_ids = tokenizer(prompt, return_tensors="pt").input_ids if prompt else None
    start_tokens = 1 if input_ids is None else input_ids.shape[1] - 1
    out = model.generate(
        pixel_values=pixels, input_ids=input_ids, return_dict_in_generate=True, output_logits=True
    )
    (answer,) = generation.answers_of(out, start_tokens, model.config.text_config.sep_token_id)
    # The tokenizer does not know [DEC], the start token.
    text = tokenizer.decode(out.sequences[0, 1:], skip_special_tokens=True)
    return {
        "token_ids": list(answer.ids),
        "text": text,
        "score": round(answer.score, 5),
        "margin": round(answer.margin, 3),
    }


def caption_scenes(model, tokenizer, images):
    """Returns the content of the file and a summary."""
    results = []
    for image, scene_kinds, pixels in images:
        results.append(
            {
                "png": reference_file.png(image),
                "truth": captions.write(captions.phrases(scene_kinds)),
                "plain": caption(model, tokenizer, pixels, None),
                "prompted": caption(model, tokenizer, pixels, PROMPT),
            }
        )
    prompt_ids = tokenizer(PROMPT, add_special_tokens=False).input_ids
    plain = sum(one["plain"]["text"] == one["truth"] for one in results)
    prompted = sum(one["prompted"]["text"] == f"{PROMPT} {one['truth']}" for one in results)
    margin = min(one[kind]["margin"] for one in results for kind in ("plain", "prompted"))
    summary = f"{plain} exact captions, {prompted} with the prompt; smallest margin {margin:.3f}"
    return {"prompt": PROMPT, "prompt_token_ids": prompt_ids, "scenes": results}, summary


def judge(model, tokenizer, pixels, phrases, matches):
    """Returns the results of `forward` for one text."""
    text = captions.write(phrases)
    ids = tokenizer(text, return_tensors="pt").input_ids
    logits = model(input_ids=ids, pixel_values=pixels).itm_score[0]
    cosine = model(input_ids=ids, pixel_values=pixels, use_itm_head=False).itm_score[0, 0]
    return {
        "text": text,
        "matches": matches,
        "probability": round(logits.softmax(-1)[1].item(), 6),
        "logits": [round(value, 4) for value in logits.tolist()],
        "cosine": round(cosine.item(), 6),
    }


def match_scenes(model, tokenizer, images):
    """Returns the content of the file and a summary."""
    rng = random.Random("match reference")
    results = []
    for image, scene_kinds, pixels in images:
        right = captions.phrases(scene_kinds)
        wrong = match_texts.falsified(right, scene_kinds, rng)
        texts = [judge(model, tokenizer, pixels, phrases, phrases is right) for phrases in (right, wrong)]
        results.append({"png": reference_file.png(image), "texts": texts})
    judged = [text for one in results for text in one["texts"]]
    correct = sum((text["probability"] > 0.5) == text["matches"] for text in judged)
    closer = sum(one["texts"][0]["cosine"] > one["texts"][1]["cosine"] for one in results)
    summary = f"{correct} of {len(judged)} texts judged correctly; cosine of the true text higher in {closer}"
    return {"scenes": results}, summary


# Task: (seed of the scenes, model class, function).
TASKS = {
    "caption": ("caption reference", BlipForConditionalGeneration, caption_scenes),
    "match": ("match reference", BlipForImageTextRetrieval, match_scenes),
}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--model", type=Path, help="model folder [default: models/demo-TASK]")
    parser.add_argument("--out", type=Path, help="file to write [default: the committed one]")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    options = parser.parse_args()
    folder = options.model or ROOT / f"models/demo-{options.task}"
    out = options.out or reference_file.DATA / f"demo_{options.task}_reference.json.gz"
    torch.set_num_threads(options.threads)
    seed, model_class, compute = TASKS[options.task]
    model = model_class.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = (
        (image, scene_kinds, processor(image, return_tensors="pt").pixel_values)
        for image, scene_kinds in reference_file.scene_images(seed, options.scenes)
    )
    content, summary = compute(model, AutoTokenizer.from_pretrained(folder), images)
    size = reference_file.write(out, folder, content)
    print(f"{options.scenes} scenes: {summary}; {size / 1e3:.0f} kB to {out}")


if __name__ == "__main__":
    main()
