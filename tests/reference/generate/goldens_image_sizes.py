"""Writes the golden file of other image sizes.

The file crates/blip/tests/image_sizes/thirty_by_six.safetensors holds what `transformers` computes
with `interpolate_pos_encoding=True` from images of other sizes than that of the checkpoint. The
checkpoint is the golden one of the same name.

    sizeN.pixels         [N, N, 3]             u8
    sizeN.image_embeds   [patches + 1, width]  f32
    sizeN.input_ids      [tokens]              i64
    sizeN.generated_ids  [steps + 1]           i64, start token first

    python tests/reference/generate/goldens_image_sizes.py
"""

import json

import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import BlipForQuestionAnswering, BlipImageProcessorPil

from golden_checkpoint import BLIP_TESTS, GOLDENS, scaled, smallest_margin

NAME = "thirty_by_six"
SIZES = (18, 42)  # patches of 6 pixels: 3 x 3 and 7 x 7 instead of 5 x 5
FOLDER = BLIP_TESTS / "image_sizes"


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    source = GOLDENS / NAME
    model = BlipForQuestionAnswering.from_pretrained(source, dtype=torch.float32).eval()
    processor = BlipImageProcessorPil.from_pretrained(source)
    case = json.loads((source / "expected.json").read_text())["cases"][2]
    image = Image.open(source / case["image"])
    input_ids = torch.tensor(
        [Tokenizer.from_file(str(source / "tokenizer.json")).encode(case["question"]).ids]
    )
    tensors = {}
    for size in SIZES:
        pixel_values = processor(
            image, size={"height": size, "width": size}, return_tensors="pt"
        ).pixel_values
        embeds = model.vision_model(pixel_values, interpolate_pos_encoding=True).last_hidden_state
        generated = model.generate(
            input_ids=input_ids,
            pixel_values=pixel_values,
            interpolate_pos_encoding=True,
            return_dict_in_generate=True,
            output_logits=True,
        )
        smallest_margin(torch.cat(generated.logits))
        tensors |= {
            f"size{size}.pixels": scaled(image, size),
            f"size{size}.image_embeds": embeds[0].contiguous(),
            f"size{size}.input_ids": input_ids[0].clone(),
            f"size{size}.generated_ids": generated.sequences[0],
        }
        print(size, tuple(embeds.shape), generated.sequences[0].tolist())
    FOLDER.mkdir(exist_ok=True)
    save_file(tensors, FOLDER / f"{NAME}.safetensors")


if __name__ == "__main__":
    main()
