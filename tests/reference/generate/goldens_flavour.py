"""Writes what the original's habits are compared with: crates/blip/tests/original_flavour/.

    quiet/                a checkpoint, and what `transformers` answers with its image encoder's epsilon at 1e-6 when it is
                          given the ids that the original would make of each question
    texts.json            texts, and the ids that the original makes of them as questions and as texts to be matched

The texts are treated by Python written here from the description of the original (regular expressions, and the
`tokenizers` library's own truncation), independently of the Rust.

    python tests/reference/generate/goldens_flavour.py
"""

import re
import shutil

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessorPil

import goldens
from golden_cases import QUIET
from goldens_captions import scaled

FOLDER = goldens.GOLDENS.parent / "original_flavour"
PUNCTUATION = r'[.!"()*#:;~]'
MAX_WORDS, MAX_TOKENS = 50, 35

TEXTS = (
    "What color is the CIRCLE?",
    "how many: red (or green) shapes.. are there!!  ",
    "  what is  in the picture?",
    "What's the dog's, café's ~colour~; #3 \"right\"?",
    "...",
    "",
    "naïve\tCafé\n\nred\u00a0blue",
    "dog.two*boxes#left",
    "ΟΔΟΣ ΣΑΣ",
    " ".join(f"{word}" for word in ["red", "blue"] * 30),
    " ".join("x" if i % 2 else "" for i in range(120)),
    "what is the color of shape there a circle in picture how many are red blue green left right top a is the of red blue",
    "un##known rhinoceros " * 12,
    "日本 dog",
)  # fmt: skip


def clean_question(text):
    text = re.sub(PUNCTUATION, "", text.lower()).rstrip(" ")
    return " ".join(text.split(" ")[:MAX_WORDS])


def clean_caption(text):
    text = re.sub(PUNCTUATION, " ", text.lower())
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:MAX_WORDS])


def ids(tokenizer, text, first=None):
    tokenizer.enable_truncation(MAX_TOKENS)
    encoded = tokenizer.encode(text).ids
    tokenizer.no_truncation()
    return [encoded[0] if first is None else first, *encoded[1:]]


@torch.no_grad()
def write_quiet(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, _ = goldens.write_checkpoint(QUIET, folder)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.startswith("vision_model.embeddings."):
            weights[name] = weights[name] * 0.004
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    config = BlipConfig.from_pretrained(folder)
    encoder_token = config.text_config.bos_token_id + 1
    as_it_is = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    config.vision_config.layer_norm_eps = 1e-6
    model = BlipForQuestionAnswering.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    image = next(goldens.pictures(numpy.random.default_rng(QUIET.seed)))
    pixel_values = BlipImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt").pixel_values
    embeds = model.vision_model(pixel_values).last_hidden_state[0]
    other = as_it_is.vision_model(pixel_values).last_hidden_state[0]
    apart = float((embeds - other).abs().max() / embeds.abs().max())
    assert apart > 0.01, f"the two epsilons can hardly be told apart: {apart}"

    cases = []
    for text in TEXTS:
        input_ids = torch.tensor([ids(tokenizer, clean_question(text), encoder_token)])
        case = goldens.ask_alone(model, pixel_values, input_ids, {})
        goldens.check(model, case, config.text_config.sep_token_id)
        cases.append({"question": text, "written_ids": case["generated_ids"][1:].tolist()})
    save_file(
        {"pixels": scaled(image, QUIET.vision["image_size"]), "image_embeds": embeds.contiguous()},
        folder / "expected.safetensors",
    )
    goldens.write_json(folder / "expected.json", {"epsilons_apart": apart, "cases": cases})
    print(f"epsilons apart {apart:.3f}; answers {[len(case['written_ids']) for case in cases]}")
    return tokenizer, encoder_token


def main():
    torch.set_num_threads(1)
    tokenizer, encoder_token = write_quiet(FOLDER / "quiet")
    texts = [
        {
            "text": text,
            "question_ids": ids(tokenizer, clean_question(text), encoder_token),
            "matching_ids": ids(tokenizer, clean_caption(text)),
        }
        for text in TEXTS
    ]
    assert any(len(text["question_ids"]) == MAX_TOKENS for text in texts)
    goldens.write_json(FOLDER / "texts.json", texts)


if __name__ == "__main__":
    main()
