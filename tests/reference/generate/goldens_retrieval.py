"""Writes the goldens that matching is compared with: crates/blip/tests/retrieval/NAME/.

Small random checkpoints of `BlipForImageTextRetrieval`, two pictures, and what `transformers` makes of texts about them, one
at a time: logits of the matching head, cosine, both vectors. And the same with the original's habits: an epsilon of 1e-6 in
the image encoder, and `[ENC]` first where the text reads the picture.

    expected.json          texts, their ids, logits and cosine of both flavours
    expected.safetensors   imageN.pixels     [size, size, 3]  u8, at the model's size
                           imageN.embedding  [projection]     f32
                           caseN.embedding   [projection]     f32

    python tests/reference/generate/goldens_retrieval.py
"""

import random
import shutil

import numpy
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import BlipConfig, BlipForImageTextRetrieval, BlipImageProcessorPil

import goldens
from golden_cases import RETRIEVAL_CASES
from goldens_captions import scaled

FOLDER = goldens.GOLDENS.parent / "retrieval"


def match(model, pixel_values, input_ids, first_token=None):
    """The reference's logits and cosine; `first_token` stands where [CLS] would while the text is matched."""
    matched = input_ids.clone()
    if first_token is not None:
        matched[:, 0] = first_token
    logits = model(input_ids=matched, pixel_values=pixel_values, use_itm_head=True).itm_score[0]
    cosine = model(input_ids=input_ids, pixel_values=pixel_values, use_itm_head=False).itm_score
    return logits.tolist(), float(cosine)


def vectors(model, pixel_values, input_ids):
    """The two vectors whose product the cosine is."""
    image = model.vision_model(pixel_values).last_hidden_state[:, 0]
    text = model.text_encoder(input_ids).last_hidden_state[:, 0]
    return normalize(model.vision_proj(image), dim=-1)[0], normalize(model.text_proj(text), dim=-1)[0]


@torch.no_grad()
def write(golden, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, words = goldens.write_checkpoint(golden, folder, BlipForImageTextRetrieval)
    load = BlipForImageTextRetrieval.from_pretrained
    model = load(folder, dtype=torch.float32).eval()
    original_config = BlipConfig.from_pretrained(folder)
    original_config.vision_config.layer_norm_eps = 1e-6
    original = load(folder, config=original_config, dtype=torch.float32).eval()
    encoder_token = model.config.text_config.bos_token_id + 1
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = list(goldens.pictures(numpy.random.default_rng(golden.seed)))
    rng = random.Random(golden.seed)
    tensors, cases = {}, []
    for i, length in enumerate(golden.lengths):
        picture = i % len(images)
        text = goldens.question(tokenizer, words, length, rng)
        input_ids = torch.tensor([tokenizer.encode(text).ids])
        pixel_values = processor(images[picture], return_tensors="pt").pixel_values
        image_vector, text_vector = vectors(model, pixel_values, input_ids)
        logits, cosine = match(model, pixel_values, input_ids)
        assert abs(float(image_vector @ text_vector) - cosine) < 1e-5
        original_logits, original_cosine = match(original, pixel_values, input_ids, encoder_token)
        tensors[f"image{picture}.pixels"] = scaled(images[picture], golden.vision["image_size"])
        tensors[f"image{picture}.embedding"] = image_vector.contiguous()
        tensors[f"case{i}.embedding"] = text_vector.contiguous()
        cases.append({
            "image": picture,
            "text": text,
            "input_ids": input_ids[0].tolist(),
            "hf": {"logits": logits, "cosine": cosine},
            "salesforce": {"logits": original_logits, "cosine": original_cosine},
        })
    save_file(tensors, folder / "expected.safetensors")
    goldens.write_json(folder / "expected.json", {"cases": cases})
    return cases


def main():
    torch.set_num_threads(1)
    for golden in RETRIEVAL_CASES:
        cases = write(golden, FOLDER / golden.name)
        apart = [abs(c["hf"]["logits"][1] - c["salesforce"]["logits"][1]) for c in cases]
        assert min(apart) > 1e-2, "the two flavours can hardly be told apart"
        print(golden.name, [[round(x, 3) for x in c["hf"]["logits"]] + [round(c["hf"]["cosine"], 3)] for c in cases])


if __name__ == "__main__":
    main()
