"""OpenVINO, converted from the two parts. NNCF writes the 8-bit models.

8-bit images have static scales from random images, as NNCF does for transformers. 8-bit texts have
8-bit weights only, because 8-bit activations change nearly all answers of the texts.
"""

import numpy
import openvino

from sizes import SIDE
from worker import LeftOut

CALIBRATION_IMAGES = 16


def files(folder, images, texts):
    parts = (("images", images), ("questions", texts))
    # bf16 is a setting, not another file.
    return [folder / f"openvino/{part}-{format.replace('bf16', 'f32')}.xml" for part, format in parts]


def convert(folder):
    """Writes both parts in f32."""
    from parts import examples, load_parts

    for path, part, inputs in zip(files(folder, "f32", "f32"), load_parts(folder), examples()):
        model = openvino.convert_model(part, example_input=inputs)
        shapes = [openvino.PartialShape([-1, *value.shape[1:]]) for value in inputs]
        if len(inputs) > 1:
            shapes[0] = openvino.PartialShape([-1, -1, inputs[0].shape[2]])
        model.reshape(dict(zip(model.inputs, shapes)))
        openvino.save_model(model, path, compress_to_fp16=False)


def quantize(folder):
    """Writes both parts with 8-bit integers."""
    import nncf

    core = openvino.Core()
    images, questions = map(core.read_model, files(folder, "f32", "f32"))
    random = numpy.random.default_rng(1)
    scenes = random.normal(0, 1, (CALIBRATION_IMAGES, 1, 3, SIDE, SIDE)).astype(numpy.float32)
    scales = nncf.Dataset(list(scenes))
    images = nncf.quantize(images, scales, subset_size=len(scenes), model_type=nncf.ModelType.TRANSFORMER)
    questions = nncf.compress_weights(questions, mode=nncf.CompressWeightsMode.INT8_SYM)
    for path, model in zip(files(folder, "int8", "int8"), (images, questions)):
        openvino.save_model(model, path, compress_to_fp16=False)


def prepare(folder, images, texts, threads):
    if not all(path.exists() for path in files(folder, "f32", "f32")):
        convert(folder)
    if not all(path.exists() for path in files(folder, images, texts)):
        quantize(folder)


class Peer:
    version = f"openvino {openvino.__version__.split('-')[0]}"

    def __init__(self, folder, images, texts, threads):
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", openvino.properties.device.capabilities)
        if images == "bf16" and not has_bf16:
            raise LeftOut("OpenVINO computes in f32 on this processor, which has no bf16 products")
        core.set_property({openvino.properties.cache_dir: str(folder / "openvino/cache")})
        # Beside 8-bit images, f32 is faster than bf16. 8-bit weights run in OpenVINO's default.
        hint = openvino.properties.hint
        settings = {openvino.properties.inference_num_threads: threads}
        settings[hint.performance_mode] = hint.PerformanceMode.LATENCY
        types = {"f32": openvino.Type.f32, "bf16": openvino.Type.bf16}
        precisions = (types.get(images, openvino.Type.f32), types.get(texts))
        self.parts = []
        for path, precision in zip(files(folder, images, texts), precisions):
            chosen = settings | ({hint.inference_precision: precision} if precision else {})
            self.parts.append(core.compile_model(path, "CPU", chosen))
        self.questions = self.parts[1].create_infer_request()

    def encode(self, pixels):
        request = self.parts[0].create_infer_request()
        request.infer([pixels], share_inputs=True)
        return request

    def ask(self, features, token_ids):
        inputs = [token_ids, *(features.get_output_tensor(at) for at in range(len(self.parts[0].outputs)))]
        return self.questions.infer(inputs, share_inputs=True)[0]
