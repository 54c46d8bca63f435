"""The captioner's card and metrics."""

import json

from . import bundle, captions, caption_exam, gallery, scenes


def of_demo_picture(model, encoder):
    """What the captioner says of the demo's picture, with and without a prompt, and its true caption."""
    scene, _ = bundle.demo_scene()
    found = captions.kinds(scene)
    one = gallery.of_scenes([scene], model.config.vision_config.image_size)
    said = []
    for prompt in ("", captions.PROMPTS[0]):
        ids = encoder.tokenizer.encode(prompt, add_special_tokens=False).ids
        (answer,) = caption_exam.describe(model, one.images, 1, ids)
        said.append({"prompt": prompt, "caption": encoder.decode(answer.ids)})
    return {"truth": captions.write(captions.phrases(found)), "said": said}


def card(metrics):
    """The model card, every number of it taken from `metrics`."""
    m, alone = metrics["model"], metrics["captions"]
    rows = (("none", alone), ("each in turn", metrics["prompted"]))
    exams = "\n".join(f"| {name} | {e['captions']:,} | {e['exact_rate']:.2%} | **{e['true_rate']:.2%}** |"
                      f" {e['complete_rate']:.2%} | {e['not_captions']} |" for name, e in rows)  # fmt: skip
    things = "\n".join(f"| {n} | {share:.1%} |" for n, share in alone["true_rate_by_things"].items())
    picture = metrics["demo_picture"]
    said = "\n".join(f"| {one['prompt'] or '(none)'} | {one['caption']} |" for one in picture["said"])
    return f"""---
license: apache-2.0
pipeline_tag: image-to-text
library_name: transformers
---
# A small BLIP that captions shapes

`BlipForConditionalGeneration` at the size of the demo in `models/demo`, whose vision tower it took over. It writes
what coloured shapes a picture shows, "two red circles and a blue rectangle", and knows nothing else:
{", ".join(scenes.SHAPES)}; {", ".join(scenes.COLORS)}. About photographs it talks nonsense.

A caption names every kind of thing (colour and shape) with its number, by shape and colour. Where there are
six kinds it names four and ends "and two more shapes", so that a caption fits the 20 tokens that `generate` writes by
default. A prompt that it has learnt goes before: {", ".join(f'"{prompt}"' for prompt in captions.PROMPTS)}.

| | |
| --- | --- |
| parameters | {m["parameters"]:,} |
| weights | {m["weight_bytes"] / 1e6:.1f} MB, f16 |
| picture | {m["image_size"]} x {m["image_size"]} pixels, patches of {m["patch_size"]} |
| vision | {m["vision_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| text decoder | {m["text_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| vocabulary | {m["vocabulary"]} tokens |

## Accuracy
On scenes drawn from a seed of their own, none seen in training, by `transformers`' own `generate` on the saved f16 weights,
computed in f32. *Exact*: the caption is the scene's, word by word. *True*: every phrase of it holds of the
scene. *Complete*: true, and nothing in the scene goes unsaid. Text that is no caption counts as untrue.

| prompt | scenes | exact | true | complete | no caption |
| --- | --- | --- | --- | --- | --- |
{exams}

True captions by how many things there are, without a prompt:

| things | |
| --- | --- |
{things}

The demo's picture, `models/demo/demo.png`, which shows {picture["truth"]}:

| prompt | caption |
| --- | --- |
{said}

## Training
{bundle.told_runs("train_demo_caption.py", metrics["training"])}

The demo's first vision layers, as many as are called frozen, stayed as they are; the rest and the decoder, which began as
the demo's text encoder, were trained on scenes of `tools/demo/scenes.py`, half of them with a prompt.
"""


def write(model, encoder, entries, folder, metrics):
    """Metrics and card; `model` is the saved one, loaded again."""
    metrics["model"] = bundle.dimensions(model, entries, folder)
    metrics["demo_picture"] = of_demo_picture(model, encoder)
    bundle.write_json(folder / "metrics.json", metrics)
    rewrite_card(folder)


def rewrite_card(folder):
    (folder / "README.md").write_text(card(json.loads((folder / "metrics.json").read_text())))
