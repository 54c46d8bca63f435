"""ONNX Runtime on an export of the two parts. Its 8-bit models have dynamic scales."""

import numpy
import onnxruntime

from sizes import LAYERS


def files(folder, *formats):
    parts = zip(("images", "questions"), formats)
    return [folder / f"onnxruntime/{part}-{format}.onnx" for part, format in parts]


def export(folder):
    """Writes both parts in f32."""
    import torch

    from parts import examples, load_parts

    stored = [f"stored{at}" for at in range(2 * LAYERS)]
    names = [(["pixels"], stored), (["token_ids", *stored], ["answers"])]
    axes = dict.fromkeys(["pixels", *stored], {0: "images"}) | {"token_ids": {0: "images", 1: "questions"}}
    axes["answers"] = axes["token_ids"]
    for path, part, inputs, (before, after) in zip(
        files(folder, "f32", "f32"), load_parts(folder), examples(), names
    ):
        path.parent.mkdir(exist_ok=True)
        torch.onnx.export(
            part, inputs, path, dynamo=False, opset_version=17, input_names=before, output_names=after,
            dynamic_axes={name: axes[name] for name in before + after},
        )  # fmt: skip
        share_weights(path)


def share_weights(path):
    """Removes the copies of weights in the later steps, which the quantizer does not recognize."""
    import onnx

    model = onnx.load(path)
    copies = [node for node in model.graph.node if node.op_type == "Identity"]
    sources = {node.output[0]: node.input[0] for node in copies}
    for node in copies:
        model.graph.node.remove(node)
    for node in model.graph.node:
        for at, name in enumerate(node.input):
            while name in sources:
                name = sources[name]
            node.input[at] = name
    onnx.save(model, path)


def quantize(folder):
    """Writes both parts with 8-bit products."""
    from onnxruntime.quantization import quantize_dynamic

    # Without VNNI, products of 8-bit numbers overflow 16 bits. The library advises 7-bit weights.
    has_vnni = "vnni" in open("/proc/cpuinfo").read()
    for source, target in zip(files(folder, "f32", "f32"), files(folder, "int8", "int8")):
        quantize_dynamic(source, target, per_channel=True, reduce_range=not has_vnni)


def prepare(folder, images, texts, threads):
    if not all(path.exists() for path in files(folder, "f32", "f32")):
        export(folder)
    if not all(path.exists() for path in files(folder, images, texts)):
        quantize(folder)


class Peer:
    version = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, folder, images, texts, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.images, self.questions = (
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            for path in files(folder, images, texts)
        )

    def encode(self, pixels):
        return self.images.run(None, {"pixels": pixels})

    def ask(self, features, token_ids):
        stored = {f"stored{at}": part for at, part in enumerate(features)}
        return self.questions.run(None, {"token_ids": token_ids, **stored})[0]
