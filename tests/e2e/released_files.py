"""The files of released BLIP checkpoints on the hub."""

import json
import shutil

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
# The files that blip-serve downloads in addition to the weights.
DOWNLOADED = {
    "config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
}
SPECIAL_TOKENS = {
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
}


def write_vocabulary(folder):
    """Writes the two files that repeat the contents of `tokenizer.json`."""
    ids = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in sorted(ids, key=ids.get)))
    (folder / "special_tokens_map.json").write_text(json.dumps(SPECIAL_TOKENS, indent=2) + "\n")


def write_unused_files(folder):
    """Writes files of a checkpoint that blip-serve does not use."""
    (folder / "README.md").write_text(f"# {folder.name}\n")
    (folder / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "tf_model.h5").write_bytes(b"weights of TensorFlow")


def copy_as_released(model, folder):
    """Writes a folder with the weights of a small model and all the files of a released one."""
    folder.mkdir(parents=True)
    for path in model.iterdir():
        if path.name in DOWNLOADED | {SAFETENSORS}:
            shutil.copy(path, folder)
    write_vocabulary(folder)
    write_unused_files(folder)
    (folder / PICKLE).write_bytes(b"the same weights, unused because of the safetensors file")
