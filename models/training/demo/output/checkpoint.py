"""Writes and reads model folders in the Hugging Face layout."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import BlipForImageTextRetrieval, BlipForQuestionAnswering

from ..data import preprocess, wordpiece
from ..evaluation.generation import MAX_NEW_TOKENS


def save(model, entries, folder):
    """Writes f16 weights, configuration, tokenizer and preprocessor, as `from_pretrained` needs."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file(
        {name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"}
    )
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"dtype": "float16"})
    text, side = model.config.text_config, model.config.vision_config.image_size
    if not isinstance(model, BlipForImageTextRetrieval):
        generation = {
            "bos_token_id": text.bos_token_id,
            "eos_token_id": text.sep_token_id,
            "max_new_tokens": MAX_NEW_TOKENS,
            "pad_token_id": text.pad_token_id,
        }
        write_json(folder / "generation_config.json", generation)
    preprocessor = {
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
    }
    write_json(folder / "preprocessor_config.json", preprocessor)
    wordpiece.save(entries, folder)


def load(folder, device="cpu", model_class=BlipForQuestionAnswering):
    """Loads a saved model: f16 weights, computed in f32, without the hooks of training."""
    return model_class.from_pretrained(folder, dtype=torch.float32).eval().to(device)


def write_json(path, value):
    """Writes indented JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n")


def dimensions(model, entries, folder):
    """Returns the sizes of a saved model for its model card."""
    config = model.config
    sizes = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "weight_bytes": (folder / "model.safetensors").stat().st_size,
        "image_size": config.vision_config.image_size,
        "patch_size": config.vision_config.patch_size,
        "vision_layers": config.vision_config.num_hidden_layers,
        "text_layers": config.text_config.num_hidden_layers,
        "width": config.text_config.hidden_size,
        "heads": config.text_config.num_attention_heads,
        "vocabulary": len(entries),
    }
    if isinstance(model, BlipForImageTextRetrieval):
        sizes["embedding"] = config.image_text_hidden_size
    return sizes
