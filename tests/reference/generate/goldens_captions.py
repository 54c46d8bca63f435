"""Writes the goldens that captions are compared with: crates/blip/tests/captions/NAME/.

Small random checkpoints of `BlipForConditionalGeneration`, two pictures, and what `transformers` writes about each,
from nothing and from a prompt, one at a time:

    expected.json          prompts, their ids, what was written behind them, the whole text, its score
    expected.safetensors   imageN.pixels        [size, size, 3]       u8, at the model's size
                           imageN.image_embeds  [patches + 1, width]  f32
                           caseN.step_logits    [steps, vocabulary]   f32

    python tests/reference/generate/goldens_captions.py
"""

import random
import shutil

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BlipForConditionalGeneration, BlipImageProcessorPil

import goldens
from golden_cases import CAPTION_CASES

FOLDER = goldens.GOLDENS.parent / "captions"


def scaled(image, size):
    """The picture at the model's size, `[size, size, 3]` of u8, as the reference's processor scales it."""
    return torch.from_numpy(numpy.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).copy())


def caption(model, pixel_values, input_ids):
    """What the reference writes behind a prompt, and the logits of each step."""
    prompt = input_ids.clone()  # `generate` writes into it
    generated = model.generate(
        pixel_values=pixel_values, input_ids=prompt, return_dict_in_generate=True, output_logits=True
    )
    logits, ids = torch.cat(generated.logits), generated.sequences[0]
    given = input_ids.shape[1] - 1
    # A second way: all at once, without a cache.
    image_embeds = model.vision_model(pixel_values).last_hidden_state
    again = model.text_decoder(ids[None, :-1], encoder_hidden_states=image_embeds, is_decoder=True, use_cache=False)
    again = again.logits[0, given - 1 :]
    torch.testing.assert_close(again, logits, rtol=1e-4, atol=1e-4)
    assert torch.equal(again.argmax(-1), ids[given:]), "greedy steps do not reproduce generate()"
    best = again.topk(2, -1).values
    margin = float((best[:, 0] - best[:, 1]).min())
    assert margin > 5e-3, f"a near tie of {margin}: choose another seed"
    return image_embeds[0], ids[:given], ids[given:], logits, margin


@torch.no_grad()
def write(golden, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, words = goldens.write_checkpoint(golden, folder, BlipForConditionalGeneration)
    model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = list(goldens.pictures(numpy.random.default_rng(golden.seed)))
    rng = random.Random(golden.seed)
    tensors, cases = {}, []
    for i, length in enumerate(golden.lengths):
        picture = i % len(images)
        text = goldens.question(tokenizer, words, length, rng)
        input_ids = torch.tensor([tokenizer.encode(text).ids])
        pixel_values = processor(images[picture], return_tensors="pt").pixel_values
        image_embeds, prompt, written, logits, margin = caption(model, pixel_values, input_ids)
        tensors[f"image{picture}.pixels"] = scaled(images[picture], golden.vision["image_size"])
        tensors[f"image{picture}.image_embeds"] = image_embeds.contiguous()
        tensors[f"case{i}.step_logits"] = logits.contiguous()
        known = [int(t) for t in [*prompt, *written] if t < tokenizer.get_vocab_size()]
        score = float(logits.double().log_softmax(-1).gather(1, written[:, None]).sum())
        cases.append({
            "image": picture,
            "prompt": text,
            "prompt_ids": prompt.tolist(),
            "written_ids": written.tolist(),
            "text": tokenizer.decode(known),
            "score": score,
            "smallest_margin": margin,
        })
    save_file(tensors, folder / "expected.safetensors")
    goldens.write_json(folder / "expected.json", {"cases": cases})
    return cases


def main():
    torch.set_num_threads(1)
    lengths = set()
    for golden in CAPTION_CASES:
        cases = write(golden, FOLDER / golden.name)
        lengths |= {len(case["written_ids"]) for case in cases}
        print(golden.name, [(len(case["prompt_ids"]), len(case["written_ids"])) for case in cases])
    assert len(lengths) >= 4, "goldens whose captions all end alike prove little"


if __name__ == "__main__":
    main()
