"""The files of a released BLIP checkpoint on the hub, by their names."""

import json
import shutil

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
# What blip-serve takes beside the weights.
TAKEN = {"config.json", "preprocessor_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
SPECIAL_TOKENS = {"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}


def write_vocabulary(folder):
    """The two files that say again what `tokenizer.json` says."""
    ids = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in sorted(ids, key=ids.get)))
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS, indent=2) + "\n")


def write_what_is_left_alone(folder):
    """What the hub has of a checkpoint for others."""
    (folder / "README.md").write_text(f"# {folder.name}\n")
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "tf_model.h5").write_bytes(b"weights of TensorFlow, which nobody here reads")


def copy_as_released(model, folder):
    """A small model's folder with all the files of a released one."""
    folder.mkdir(parents=True)
    for path in model.iterdir():
        if path.name in TAKEN | {SAFETENSORS}:
            shutil.copy(path, folder)
    write_vocabulary(folder)
    write_what_is_left_alone(folder)
    (folder / PICKLE).write_bytes(b"the same weights, which are not taken where there are safetensors")
