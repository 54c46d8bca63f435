"""Writes what `transformers` computes from a checkpoint of `random_checkpoint.py`, into its folder.

The test `released_shapes` of crates/blip compares with it. The checkpoints have gigabytes, so that
the test is ignored by default:

    python tests/reference/generate/random_checkpoint.py /tmp/caption-large --preset caption-large
    python tests/reference/reference_tasks.py /tmp/caption-large
    BLIP_CHECKPOINTS=/tmp/caption-large cargo test -p blip released_shapes -- --ignored --nocapture

    expected.json          texts, their ids and the results
    expected.safetensors   imageN.pixels        [size, size, 3]       u8
                           imageN.image_embeds  [patches + 1, width]  f32
"""

import argparse
import sys
from pathlib import Path

import numpy
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoTokenizer, BlipConfig, BlipImageProcessorPil

sys.path.append(str(Path(__file__).resolve().parent / "generate"))
from golden_checkpoint import random_images, scaled, write_json  # noqa: E402
from goldens_tasks import match  # noqa: E402

TEXTS = ("", "a picture of a dog", "how many people are standing in front of the building?")


def generate(model, pixel_values, input_ids, is_caption):
    """Returns the generated ids after the prompt, their log-probability and the smallest margin."""
    generated = model.generate(
        pixel_values=pixel_values,
        input_ids=input_ids.clone(),
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits = torch.cat(generated.logits)
    ids = generated.sequences[0][input_ids.shape[1] - 1 if is_caption else 1 :]
    score = float(logits.double().log_softmax(-1).gather(1, ids[:, None]).sum())
    best = logits.topk(2, -1).values
    return {"written_ids": ids.tolist(), "score": score, "margin": float((best[:, 0] - best[:, 1]).min())}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=len(TEXTS), help="number of texts to use")
    options = parser.parse_args()
    folder = options.folder
    config = BlipConfig.from_pretrained(folder)
    name = config.architectures[0]
    model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    tensors, cases = {}, []
    for i, image in enumerate(random_images(numpy.random.default_rng(7))):
        pixel_values = processor(image, return_tensors="pt").pixel_values
        tensors[f"image{i}.pixels"] = scaled(image, config.vision_config.image_size)
        tensors[f"image{i}.image_embeds"] = model.vision_model(pixel_values).last_hidden_state[0].contiguous()
        for text in TEXTS[: options.texts]:
            input_ids = torch.tensor([tokenizer(text).input_ids])
            case = {"image": i, "text": text}
            if name == "BlipForImageTextRetrieval":
                case["logits"], case["cosine"] = match(model, pixel_values, input_ids)
            else:
                case |= generate(model, pixel_values, input_ids, name == "BlipForConditionalGeneration")
            cases.append(case)
            print({key: value for key, value in case.items() if key != "image"}, flush=True)
    save_file(tensors, folder / "expected.safetensors")
    write_json(folder / "expected.json", {"transformers": transformers.__version__, "cases": cases})


if __name__ == "__main__":
    main()
