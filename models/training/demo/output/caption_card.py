"""The model card of the captioning model."""

from ..data import captions, scene_set, scenes
from ..evaluation import caption_exam
from . import training_runs
from .demo_scene import demo_scene


def demo_results(model, tokenizer, _folder):
    """Returns the true caption of the demo image and the model's, with and without a prompt."""
    scene, _ = demo_scene()
    image = scene_set.of_scenes([scene], model.config.vision_config.image_size)
    results = []
    for prompt in ("", captions.PROMPTS[0]):
        ids = tokenizer.wordpiece.encode(prompt, add_special_tokens=False).ids
        (answer,) = caption_exam.generate(model, image.images, 1, ids)
        results.append({"prompt": prompt, "caption": tokenizer.decode(answer.ids)})
    return {"truth": captions.write(captions.phrases(captions.kinds(scene))), "captions": results}


def render(metrics):
    """Returns the model card. All its numbers come from `metrics`."""
    m, unprompted = metrics["model"], metrics["captions"]
    rows = (("none", unprompted), ("each in turn", metrics["prompted"]))
    exams = "\n".join(
        f"| {name} | {e['captions']:,} | {e['exact_rate']:.2%} | **{e['true_rate']:.2%}** |"
        f" {e['complete_rate']:.2%} | {e['not_captions']} |"
        for name, e in rows
    )
    things = "\n".join(f"| {n} | {rate:.1%} |" for n, rate in unprompted["true_rate_by_things"].items())
    image = metrics["demo_image"]
    results = "\n".join(f"| {one['prompt'] or '(none)'} | {one['caption']} |" for one in image["captions"])
    prompts = "\n".join(f'  * "{prompt}"' for prompt in captions.PROMPTS)
    return f"""---
license: apache-2.0
pipeline_tag: image-to-text
library_name: transformers
---
# Demo model for captioning

`BlipForConditionalGeneration` in the size of `models/demo`. Its vision encoder was initialized from
that model. It was trained on images of coloured shapes only. A caption is, for example, "two red
circles and a blue rectangle". Captions of photographs are meaningless.

* Shapes: {", ".join(scenes.SHAPES)}.
* Colours: {", ".join(scenes.COLORS)}.
* A caption names every kind of thing (colour and shape) with its number, ordered by shape and
  colour.
* If an image has six kinds, the caption names four and ends with "and two more shapes". So a
  caption fits the default length of `generate`, 20 tokens.
* The model continues these prompts:
{prompts}

| | |
| --- | --- |
| parameters | {m["parameters"]:,} |
| weights | {m["weight_bytes"] / 1e6:.1f} MB, f16 |
| image | {m["image_size"]} x {m["image_size"]} pixels, patches of {m["patch_size"]} |
| vision encoder | {m["vision_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| text decoder | {m["text_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| vocabulary | {m["vocabulary"]} tokens |

## Accuracy

Measured on scenes of a separate seed that training does not use. The captions come from `generate`
of `transformers` on the saved f16 weights, computed in f32.

* *Exact*: the caption equals that of the scene.
* *True*: every phrase is true for the scene. A text that is not a caption counts as false.
* *Complete*: the caption is true and names everything in the scene.

| prompt | scenes | exact | true | complete | not a caption |
| --- | --- | --- | --- | --- | --- |
{exams}

True captions by number of things, without a prompt:

| things | true |
| --- | --- |
{things}

Captions of the demo image, `models/demo/demo.png`. The true caption is
"{image["truth"]}".

| prompt | caption |
| --- | --- |
{results}

## Training

{training_runs.run_list("caption", metrics["training"])}

The frozen layers are the first vision layers of `models/demo`. The other vision layers and the
decoder were trained on scenes of `models/training/demo/data/scenes.py`, half of them with a prompt.
The decoder was initialized from the text encoder of `models/demo`.
"""
