"""The model card of the answering model."""

import torch

from ..data import preprocess, scenes
from ..evaluation import generation
from .demo_scene import demo_scene


def demo_results(model, tokenizer, folder):
    """Draws the demo image into the folder and returns the model's answers about it."""
    scene, pairs = demo_scene()
    image = scenes.draw(scene)
    image.save(folder / "demo.png", optimize=True)
    side = model.config.vision_config.image_size
    pixels = preprocess.normalize(torch.from_numpy(preprocess.scale(image, side).copy())[None])
    rows = [(0, tokenizer.wordpiece.encode(question + "?").ids) for question, _ in pairs]
    answers = [tokenizer.decode(answer.ids) for answer in generation.ask(model, pixels.__getitem__, rows)]
    return [
        {"question": question + "?", "answer": answer, "truth": truth}
        for (question, truth), answer in zip(pairs, answers, strict=True)
    ]


def render(metrics):
    """Returns the model card. All its numbers come from `metrics`."""
    m, generated, easy = metrics["model"], metrics["generated_scenes"], metrics["easy_vqa_test"]
    run = metrics["training"]
    kinds = "\n".join(
        f"| {name.replace('_', ' ')} | {rate:.1%} |" for name, rate in generated["by_kind"].items()
    )
    examples = "\n".join(f"| {e['question']} | {e['answer']} | {e['truth']} |" for e in metrics["demo_image"])
    options = f"--seed {run['seed']} --vision-steps {run['vision_steps']} --steps {run['steps']}"
    return f"""---
license: apache-2.0
pipeline_tag: visual-question-answering
library_name: transformers
---
# Demo model for visual question answering

The default model of `blip-serve`: `BlipForQuestionAnswering` in a size that is embedded in the
program and answers in milliseconds on a CPU. It was trained on images of coloured shapes only and
gives meaningless answers about photographs.

* Shapes: {", ".join(scenes.SHAPES)}.
* Colours: {", ".join(scenes.COLORS)}.

| | |
| --- | --- |
| parameters | {m["parameters"]:,} |
| weights | {m["weight_bytes"] / 1e6:.1f} MB, f16 |
| image | {m["image_size"]} x {m["image_size"]} pixels, patches of {m["patch_size"]} |
| vision encoder | {m["vision_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| text encoder and decoder | {m["text_layers"]} layers each, width {m["width"]}, {m["heads"]} heads |
| vocabulary | {m["vocabulary"]} tokens |

## Data

* The **train** split of [easy-vqa](https://pypi.org/project/easy-vqa/): {run["easy_vqa_images"]:,} images
  of one shape. The test split is used for the accuracy below only.
* {run["generated_scenes"]:,} scenes drawn by `models/training` with one to six shapes and {run["questions_per_scene"]}
  questions each. The questions ask about colours, shapes, counts, places, order and size, or expect
  yes or no. The images have 64 to 512 pixels per side. Some have noise, blur or JPEG artifacts.

## Accuracy

An answer counts as correct if all its words are. The training script measured the saved f16
weights, computed in f32, with every question unpadded.

| | questions | correct | |
| --- | --- | --- | --- |
| easy-vqa, test split | {easy["questions"]:,} | {easy["right"]:,} | **{easy["accuracy"]:.2%}** |
| generated scenes, held out | {generated["questions"]:,} | {generated["right"]:,} | **{generated["accuracy"]:.2%}** |

Generated scenes by kind of question:

| kind | correct |
| --- | --- |
{kinds}

The bundled image, `demo.png`:

| question | the model's answer | truth |
| --- | --- | --- |
{examples}

## Training

{run["seconds"]:.0f} s on {run["device"]}:
`python models/training/train.py --task answer {options}`

In the first stage, the vision encoder learns the shape and colour of every patch. In the second
stage, all parts are trained together. Questions of different lengths share a batch. Cross-attention
applies the question mask, so that an answer does not depend on padding.
"""
