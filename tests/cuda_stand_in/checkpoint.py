"""Makes checkpoints of any shape from the demo model. The weights are 0 and take no disk space."""

import json
import re
import shutil
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models/demo"


# The shape of Salesforce/blip-vqa-base.
BASE = {"hidden": 768, "layers": 12, "heads": 12, "image_size": 384, "patch_size": 16, "vocabulary": 30524}


def make(folder, *, hidden, layers, heads, image_size, patch_size, vocabulary):
    """Writes a question answering model of this shape, with equal widths of both towers."""
    config = json.loads((DEMO / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    old = {
        "hidden": text["hidden_size"],
        "inner": text["intermediate_size"],
        "vocabulary": text["vocab_size"],
        "patch": vision["patch_size"],
        "tokens": (vision["image_size"] // vision["patch_size"]) ** 2 + 1,
    }
    tokens = (image_size // patch_size) ** 2 + 1
    for tower in (text, vision):
        tower.update(hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers)
        tower["num_attention_heads"] = heads
    text.update(encoder_hidden_size=hidden, vocab_size=vocabulary)
    vision.update(image_size=image_size, patch_size=patch_size)
    positions = text["max_position_embeddings"]

    def resize(name, shape):
        """Returns the shape of a tensor of the demo model in the new one."""
        if name.endswith("position_embeddings.weight"):
            return [positions, hidden]
        if name.endswith("patch_embedding.weight"):
            return [hidden, 3, patch_size, patch_size]
        if name.endswith("vision_model.embeddings.position_embedding"):
            return [1, tokens, hidden]
        sizes = {
            old["hidden"]: hidden,
            old["inner"]: 4 * hidden,
            3 * old["hidden"]: 3 * hidden,
            old["vocabulary"]: vocabulary,
        }
        return [sizes.get(size, size) for size in shape]

    with (DEMO / "model.safetensors").open("rb") as file:
        demo = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    shapes = {}
    for name, tensor in demo.items():
        layer = re.search(r"\.layers?\.(\d+)\.", name)
        if name == "__metadata__" or (layer and layer[1] != "0"):
            continue
        for index in range(layers if layer else 1):
            new_name = re.sub(r"(\.layers?\.)0\.", rf"\g<1>{index}.", name)
            shapes[new_name] = resize(name, tensor["shape"])

    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    folder.mkdir(parents=True)
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        # The rest of the file is a hole, which reads as 0.
        file.truncate(8 + len(encoded) + offset)
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = json.loads((DEMO / "preprocessor_config.json").read_text())
    preprocessor["size"] = {"height": image_size, "width": image_size}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(DEMO / name, folder / name)
    return folder
