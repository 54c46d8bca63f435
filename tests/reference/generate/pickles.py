"""Writes checkpoints in the format of `torch.save`: crates/blip/tests/pickles/NAME.

All hold the weights of crates/blip/tests/goldens/vocab_txt, so that tests can compare them with
that safetensors file:

    pytorch_model.bin   f32, Hugging Face names, with tied head and buffers as in files of 2022
    sharded/            f16, three files and their index
    original.pth        names of the original repository, with its training state: momentum copies,
                        queues, optimizer

    python tests/reference/generate/pickles.py
"""

import collections
import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file

TESTS = Path(__file__).resolve().parents[3] / "crates/blip/tests"
HEAD = "text_decoder.cls.predictions"
VISION = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual_encoder.patch_embed.proj."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"visual_encoder.blocks.\1.norm\2."),
    (
        r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection\.",
        r"visual_encoder.blocks.\1.attn.proj.",
    ),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv\.", r"visual_encoder.blocks.\1.attn.qkv."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.", r"visual_encoder.blocks.\1.mlp."),
    (r"^vision_model\.post_layernorm\.", "visual_encoder.norm."),
)


def full_state(tensors):
    """Returns the state dict as in 2022: with a head that shares its storage, and with buffers."""
    state = collections.OrderedDict(sorted(tensors.items()))
    if f"{HEAD}.bias" in state:
        state[f"{HEAD}.decoder.weight"] = state["text_decoder.bert.embeddings.word_embeddings.weight"]
        state[f"{HEAD}.decoder.bias"] = state[f"{HEAD}.bias"]
    for model in ("text_encoder", "text_decoder.bert"):
        positions = state.get(f"{model}.embeddings.position_embeddings.weight")
        if positions is not None:
            state[f"{model}.embeddings.position_ids"] = torch.arange(positions.shape[0]).expand(1, -1)
    return state


def original_name(name):
    """Returns the name of a tensor in the original repository."""
    for pattern, replacement in VISION:
        name, count = re.subn(pattern, replacement, name)
        if count:
            return name
    assert not name.startswith("vision_model."), name
    return name


def original(state):
    """Returns the checkpoint that the training script of the original repository writes."""
    model = collections.OrderedDict((original_name(name), tensor) for name, tensor in state.items())
    for name in [name for name in model if name.startswith("visual_encoder.blocks.0.norm")]:
        model[name.replace("visual_encoder", "visual_encoder_m")] = model[name] + 1
    model["temp"] = torch.tensor(0.07)
    model["image_queue"] = torch.zeros(4, 6)
    model["ptr_queue"] = torch.zeros(1, dtype=torch.int64)
    step = {"step": 7, "exp_avg": torch.ones(3)}
    optimizer = {"state": {0: step}, "param_groups": [{"lr": 2e-5, "betas": (0.9, 0.999), "params": [0]}]}
    return {"model": model, "optimizer": optimizer, "config": {"vit": "base", "image_size": 24}, "epoch": 9}


def main():
    tensors = load_file(TESTS / "goldens/vocab_txt/model.safetensors")
    folder = TESTS / "pickles"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "sharded").mkdir(parents=True)
    state = full_state(tensors)
    torch.save(state, folder / "pytorch_model.bin")
    torch.save(original(state), folder / "original.pth")
    names = list(tensors)
    weight_map = {}
    for shard in range(3):
        file = f"pytorch_model-{shard + 1:05}-of-00003.bin"
        torch.save({name: tensors[name].half() for name in names[shard::3]}, folder / "sharded" / file)
        weight_map |= {name: file for name in names[shard::3]}
    size = sum(tensor.numel() * 2 for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "sharded/pytorch_model.bin.index.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
