"""The model card of the matching model."""

from ..data import captions, scene_set, scenes
from ..evaluation import match_exam
from . import training_runs
from .demo_scene import demo_scene


def demo_results(model, tokenizer, _folder):
    """Returns the model's results for true and false texts about the demo image."""
    scene, _ = demo_scene()
    scene_kinds = captions.kinds(scene)
    image = scene_set.of_scenes([scene], model.config.vision_config.image_size)
    texts = texts_for(scene_kinds)
    probabilities = match_exam.probabilities(model, tokenizer, image, [(0, text) for text in texts])
    cosines = match_exam.cosines(model, tokenizer, image, [0], texts)[0].tolist()
    return [
        {
            "text": text,
            "true": captions.is_true(captions.read(text), scene_kinds),
            "probability": probability,
            "cosine": cosine,
        }
        for text, probability, cosine in zip(texts, probabilities, cosines, strict=True)
    ]


def texts_for(scene_kinds):
    """Returns the caption, its false variants, one phrase of it, and the number of things."""
    hard = match_exam.hard_pairs(scene_set.SceneSet(None, [scene_kinds]))
    count = captions.Phrase(sum(scene_kinds.values()))
    fewer = captions.Phrase(count.count - 1)
    return [text for _, text, _ in hard] + [str(captions.phrases(scene_kinds)[0]), str(count), str(fewer)]


def render(metrics):
    """Returns the model card. All its numbers come from `metrics`."""
    m, judged, searched = metrics["model"], metrics["matching"], metrics["search"]
    changes = "\n".join(
        f"| one word wrong: {change} | {rate:.2%} rejected |"
        for change, rate in judged["rejected_by_wrong_word"].items()
    )
    examples = "\n".join(
        f"| {e['text']} | {'yes' if e['true'] else 'no'} | {e['probability']:.3f} | {e['cosine']:.3f} |"
        for e in metrics["demo_image"]
    )
    texts = metrics["training"][-1]["texts_per_image"]
    return f"""---
license: apache-2.0
pipeline_tag: zero-shot-image-classification
library_name: transformers
---
# Demo model for image-text matching

`BlipForImageTextRetrieval` in the size of `models/demo`. Its vision encoder and text encoder were
initialized from that model. It was trained on images of coloured shapes only and gives meaningless
results for photographs.

* The matching head returns the probability that every phrase of a text is true for an image. "Two
  red circles" means exactly two.
* The projections return vectors of {m["embedding"]} numbers, which find the images of a caption.
* Shapes: {", ".join(scenes.SHAPES)}.
* Colours: {", ".join(scenes.COLORS)}.

| | |
| --- | --- |
| parameters | {m["parameters"]:,} |
| weights | {m["weight_bytes"] / 1e6:.1f} MB, f16 |
| image | {m["image_size"]} x {m["image_size"]} pixels, patches of {m["patch_size"]} |
| vision encoder | {m["vision_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| text encoder | {m["text_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| embeddings | {m["embedding"]} numbers, normalized |
| vocabulary | {m["vocabulary"]} tokens |

## Accuracy

Measured on {judged["captions"]:,} scenes of a separate seed that training does not use. The results come
from `forward` of `transformers` on the saved f16 weights, computed in f32. A text matches if its
probability is above one half.

| matching head, {judged["texts"]:,} texts | **{judged["accuracy"]:.2%}** correct |
| --- | --- |
| the scene's caption | {judged["captions_accepted"]:.2%} accepted |
{changes}

A wrong colour or shape replaces that of one phrase. A wrong number is one too many or one too few.

| search by cosine in {searched["groups"]} groups of {searched["images_per_group"]} images with distinct captions | recall at 1 |
| --- | --- |
| image for a caption | **{searched["image_for_text_recall_at_1"]:.1%}** |
| caption for an image | {searched["text_for_image_recall_at_1"]:.1%} |

The mean cosine of an image is {searched["mean_cosine_of_match"]:.3f} with its caption and \
{searched["mean_cosine_of_others"]:.3f} with other captions. Use
embeddings to find candidates and the matching head to distinguish them.

The demo image, `models/demo/demo.png`:

| text | true | probability | cosine |
| --- | --- | --- | --- |
{examples}

## Training

{training_runs.run_list("match", metrics["training"])}

The frozen layers are the first vision layers of `models/demo`. The other vision layers, the text
encoder, the matching head and the projections were trained on scenes of
`models/training/demo/data/scenes.py`. Each image had {texts} texts to match, of which half differed
from a true text in one word. Captions served for the contrastive loss.
"""
