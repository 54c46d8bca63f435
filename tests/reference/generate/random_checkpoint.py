"""Writes a checkpoint folder with random weights in the shapes of a released BLIP model.

It serves for load tests and timing without the released weights. The amount of work is the same.
The answers are meaningless. The weights depend on the seed alone. The tokenizer has an artificial
WordPiece vocabulary with the size and the special ids of bert-base-uncased.

    python tests/reference/generate/random_checkpoint.py /tmp/blip-full --dtype f16
    python tests/reference/generate/random_checkpoint.py /tmp/blip-captions --preset caption-large
    python tests/reference/generate/random_checkpoint.py /tmp/blip-tiny --preset tiny
"""

import argparse
import itertools
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
)

import random_weights

sys.path.append(str(Path(__file__).resolve().parents[3] / "models/training"))
from demo.data import preprocess, wordpiece  # noqa: E402

SPECIAL_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
VOCABULARY = 30_522
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def tower(width, heads, layers, mlp, **rest):
    return dict(
        hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=mlp, **rest
    )


VIT_BASE = tower(768, 12, 12, 3072, image_size=384, patch_size=16)
VIT_LARGE = tower(1024, 16, 24, 4096, image_size=384, patch_size=16)
BERT_BASE = tower(768, 12, 12, 3072, max_position_embeddings=512)

PRESETS = {
    # Salesforce/blip-vqa-base and blip-vqa-capfilt-large.
    "vqa": (BlipForQuestionAnswering, VIT_BASE, BERT_BASE),
    # Salesforce/blip-image-captioning-base and -large.
    "caption-base": (BlipForConditionalGeneration, VIT_BASE, BERT_BASE),
    "caption-large": (BlipForConditionalGeneration, VIT_LARGE, BERT_BASE),
    # Salesforce/blip-itm-base-coco and -flickr, -large-coco and -flickr.
    "itm-base": (BlipForImageTextRetrieval, VIT_BASE, BERT_BASE),
    "itm-large": (BlipForImageTextRetrieval, VIT_LARGE, BERT_BASE),
    # An answering model with the same image size and vocabulary, and a hundredth of the arithmetic.
    "tiny": (
        BlipForQuestionAnswering,
        tower(96, 4, 2, 192, image_size=384, patch_size=16),
        tower(96, 4, 2, 192, max_position_embeddings=512),
    ),
}

# Frequent words, so that real questions have realistic token counts.
COMMON = (
    "what is are was were the a an of in on at to from with by for and or not no yes this that "
    "these those there here it he she they his her their who where when why how many much color "
    "colour shape kind type number time day night year do does did have has can could would "
    "should will be being been man woman person people boy girl child children baby dog cat "
    "bird horse cow sheep elephant bear zebra giraffe animal car bus truck train plane airplane "
    "boat bike bicycle motorcycle street road sign light traffic table chair bench couch bed "
    "room kitchen bathroom toilet sink mirror window door wall floor house building tree grass "  # check_prose: allow
    "flower plant water ocean beach sand snow mountain sky cloud sun rain food pizza cake "
    "sandwich apple banana orange carrot broccoli plate bowl cup glass bottle fork knife spoon "
    "wearing holding riding sitting standing walking running playing eating looking doing shirt "
    "hat tie shoes pants dress jacket umbrella bag phone laptop computer keyboard mouse "
    "television clock book picture image photo ball bat racket tennis baseball soccer "  # check_prose: allow
    "skateboard surfboard kite frisbee ski snowboard game team player red green blue yellow "
    "black white gray brown pink purple big small tall short old young left right top bottom "
    "front back behind under above next near left side "
).split()


def words(total):
    """Returns `total` distinct words: common ones, then syllables. Each fifth is a continuation."""
    onsets, vowels, codas = (
        "b d f g k l m n p r s t v z st tr".split(),
        "a e i o u ai ea".split(),
        ["", *"l m n r s t".split()],
    )
    syllables = ["".join(parts) for parts in itertools.product(onsets, vowels, codas)]
    made = dict.fromkeys(COMMON)
    for i, (one, other) in enumerate(itertools.product(syllables, syllables)):
        if len(made) == total:
            break
        made["##" + other + one if i % 5 == 4 else one + other] = None
    return list(made)


def weights(model_class, vision, text, seed, dtype, stop_bias):
    """Returns the configuration and every tensor of the model. Nothing is run."""
    config = BlipConfig(
        text_config=dict(
            text, vocab_size=VOCABULARY + 2, bos_token_id=VOCABULARY, sep_token_id=102, pad_token_id=0
        ),
        vision_config=vision,
    )
    with torch.device("meta"):
        model = model_class(config)
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: random_weights.deep_tensor(name, parameter.shape, generator).to(dtype)
        for name, parameter in model.named_parameters()
    }
    if "text_decoder.cls.predictions.bias" not in tensors:
        return config, tensors
    bias = tensors["text_decoder.cls.predictions.bias"]
    bias[102] += stop_bias
    bias[0] -= 10.0
    # The released files contain the tied head twice.
    tensors["text_decoder.cls.predictions.decoder.bias"] = bias.clone()
    tensors["text_decoder.cls.predictions.decoder.weight"] = tensors[
        "text_decoder.bert.embeddings.word_embeddings.weight"
    ].clone()
    return config, tensors


def write_configuration(folder, config, class_name):
    """Writes all files of a checkpoint except the weights."""
    settings = config.to_dict() | {"architectures": [class_name]}
    (folder / "config.json").write_text(json.dumps(settings, indent=2, default=str) + "\n")
    side = config.vision_config.image_size
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "do_convert_rgb": True,
                "do_normalize": True,
                "do_rescale": True,
                "do_resize": True,
                "image_mean": preprocess.MEAN,
                "image_processor_type": "BlipImageProcessor",
                "image_std": preprocess.STD,
                "resample": 3,
                "rescale_factor": 1 / 255,
                "size": {"height": side, "width": side},
            },
            indent=2,
        )
        + "\n"
    )
    word_count = VOCABULARY - len(SPECIAL_IDS) - len(wordpiece.pieces())
    # One-letter words are pieces already, so that a few more words are needed.
    entries = wordpiece.vocabulary(words(word_count + 50), SPECIAL_IDS)[:VOCABULARY]
    wordpiece.save(entries, folder)


def write(folder, preset, seed, dtype, stop_bias):
    """Writes a checkpoint folder. Returns its number of elements."""
    folder.mkdir(parents=True, exist_ok=True)
    model_class, vision, text = PRESETS[preset]
    config, tensors = weights(model_class, vision, text, seed, DTYPES[dtype], stop_bias)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    write_configuration(folder, config, model_class.__name__)
    return sum(tensor.numel() for tensor in tensors.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", choices=PRESETS, default="vqa")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument(
        "--stop-bias",
        type=float,
        default=10.0,
        help="value added to the logit of the stop token; higher values shorten answers",
    )
    options = parser.parse_args()
    start = time.monotonic()
    elements = write(options.folder, options.preset, options.seed, options.dtype, options.stop_bias)
    size = (options.folder / "model.safetensors").stat().st_size
    print(
        f"{elements:,} elements, {size / 1e6:.0f} MB in {time.monotonic() - start:.1f} s to {options.folder}"
    )


if __name__ == "__main__":
    main()
