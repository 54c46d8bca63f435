"""Writes the golden files of the original repository's conventions.

They go to crates/blip/tests/original_conventions/:

    quiet/        a checkpoint, and the answers of `transformers` with an epsilon of 1e-6 in the
                  vision encoder, for token ids that follow the original conventions
    texts.json    texts, and their token ids as questions and as texts to match

The text processing is a Python implementation from the description of the original (regular
expressions and the truncation of the `tokenizers` library). It is independent of the Rust code.

    python tests/reference/generate/goldens_conventions.py
"""

import re
import shutil

import numpy
import torch
from safetensors.torch import load_file, save_file
from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessorPil

from golden_cases import LOW_VARIANCE
from golden_checkpoint import BLIP_TESTS, random_images, scaled, write_checkpoint, write_json
from goldens import answer, check

FOLDER = BLIP_TESTS / "original_conventions"
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
    "what is the color of shape there a circle in picture how many are red blue green left right top a is the of red blue",  # check_prose: allow
    "un##known rhinoceros " * 12,
    "日本 dog",
)


def clean_question(text):
    """Returns a question as the original repository normalizes it."""
    text = re.sub(PUNCTUATION, "", text.lower()).rstrip(" ")
    return " ".join(text.split(" ")[:MAX_WORDS])


def clean_caption(text):
    """Returns a text to match as the original repository normalizes it."""
    text = re.sub(PUNCTUATION, " ", text.lower())
    text = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")
    return " ".join(text.split(" ")[:MAX_WORDS])


def token_ids(tokenizer, text, first=None):
    """Returns the truncated token ids. `first` replaces [CLS]."""
    tokenizer.enable_truncation(MAX_TOKENS)
    encoded = tokenizer.encode(text).ids
    tokenizer.no_truncation()
    return [encoded[0] if first is None else first, *encoded[1:]]


@torch.no_grad()
def write_low_variance(folder):
    """Writes the checkpoint with its answers. Returns its tokenizer and the id of [ENC]."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer, _ = write_checkpoint(LOW_VARIANCE, folder)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        if name.startswith("vision_model.embeddings."):
            weights[name] = weights[name] * 0.004
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    config = BlipConfig.from_pretrained(folder)
    encoder_token = config.text_config.bos_token_id + 1
    default = BlipForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    config.vision_config.layer_norm_eps = 1e-6
    model = BlipForQuestionAnswering.from_pretrained(folder, config=config, dtype=torch.float32).eval()
    image = next(random_images(numpy.random.default_rng(LOW_VARIANCE.seed)))
    pixel_values = BlipImageProcessorPil.from_pretrained(folder)(image, return_tensors="pt").pixel_values
    embeds = model.vision_model(pixel_values).last_hidden_state[0]
    other = default.vision_model(pixel_values).last_hidden_state[0]
    difference = float((embeds - other).abs().max() / embeds.abs().max())
    assert difference > 0.01, f"the two epsilons hardly differ: {difference}"

    cases = []
    for text in TEXTS:
        input_ids = torch.tensor([token_ids(tokenizer, clean_question(text), encoder_token)])
        case = answer(model, pixel_values, input_ids, {})
        check(model, case, config.text_config.sep_token_id)
        cases.append({"question": text, "written_ids": case["generated_ids"][1:].tolist()})
    save_file(
        {"pixels": scaled(image, LOW_VARIANCE.vision["image_size"]), "image_embeds": embeds.contiguous()},
        folder / "expected.safetensors",
    )
    write_json(folder / "expected.json", {"epsilons_apart": difference, "cases": cases})
    print(
        f"relative difference {difference:.3f}; answer lengths {[len(case['written_ids']) for case in cases]}"
    )
    return tokenizer, encoder_token


def main():
    torch.set_num_threads(1)
    tokenizer, encoder_token = write_low_variance(FOLDER / "quiet")
    texts = [
        {
            "text": text,
            "question_ids": token_ids(tokenizer, clean_question(text), encoder_token),
            "matching_ids": token_ids(tokenizer, clean_caption(text)),
        }
        for text in TEXTS
    ]
    assert any(len(text["question_ids"]) == MAX_TOKENS for text in texts)
    write_json(FOLDER / "texts.json", texts)


if __name__ == "__main__":
    main()
