"""The matcher's card and metrics."""

import json

from . import bundle, captions, gallery, match_exam, scenes


def of_demo_picture(model, encoder):
    """What the matcher makes of texts about the demo's picture, true ones and some false by a word."""
    scene, _ = bundle.demo_scene()
    found = captions.kinds(scene)
    one = gallery.of_scenes([scene], model.config.vision_config.image_size)
    asked = [(0, text) for text in texts_for(found)]
    told = match_exam.probabilities(model, encoder, one, asked)
    cosines = match_exam.cosines(model, encoder, one, [0], [text for _, text in asked])[0].tolist()
    return [
        {"text": text, "true": captions.true(captions.read(text), found), "probability": probability, "cosine": cosine}
        for (_, text), probability, cosine in zip(asked, told, cosines, strict=True)
    ]


def texts_for(found):
    """The caption, it false by each kind of word, one phrase of it and the number of things."""
    hard = match_exam.hard_pairs(gallery.Gallery(None, [found]))
    count = captions.Phrase(sum(found.values()))
    fewer = captions.Phrase(count.count - 1)
    return [text for _, text, _ in hard] + [str(captions.phrases(found)[0]), str(count), str(fewer)]


def card(metrics):
    """The model card, every number of it taken from `metrics`."""
    m, judged, searched = metrics["model"], metrics["matching"], metrics["search"]
    changes = "\n".join(f"| one word wrong: {change} | {share:.2%} rejected |"
                        for change, share in judged["rejected_by_wrong_word"].items())  # fmt: skip
    examples = "\n".join(f"| {e['text']} | {'yes' if e['true'] else 'no'} | {e['probability']:.3f} | {e['cosine']:.3f} |"
                         for e in metrics["demo_picture"])  # fmt: skip
    return f"""---
license: apache-2.0
pipeline_tag: zero-shot-image-classification
library_name: transformers
---
# A small BLIP that tells whether a text fits a picture

`BlipForImageTextRetrieval` at the size of the demo in `models/demo`, from whose vision tower and text encoder it began. Its
matching head says whether a text about coloured shapes holds of a picture, that is, whether each phrase of it does
("two red circles": exactly two); its projections give vectors of {m["embedding"]} numbers by which pictures are found
for a caption. It knows {", ".join(scenes.SHAPES)}; {", ".join(scenes.COLORS)}. About photographs it talks nonsense.

| | |
| --- | --- |
| parameters | {m["parameters"]:,} |
| weights | {m["weight_bytes"] / 1e6:.1f} MB, f16 |
| picture | {m["image_size"]} x {m["image_size"]} pixels, patches of {m["patch_size"]} |
| vision | {m["vision_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| text encoder | {m["text_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| embeddings | {m["embedding"]} numbers, of length 1 |
| vocabulary | {m["vocabulary"]} tokens |

## Accuracy
On {judged["captions"]:,} scenes drawn from a seed of their own, none seen in training, by `transformers`' own `forward` on the
saved f16 weights, computed in f32. A text matches where its probability is above one half.

| the matching head on {judged["texts"]:,} texts | **{judged["accuracy"]:.2%}** right |
| --- | --- |
| the scene's caption | {judged["captions_accepted"]:.2%} accepted |
{changes}

A wrong colour is another one in one phrase, a wrong shape likewise; a wrong number is one too many or too few.

| search by cosine, {searched["groups"]} groups of {searched["pictures_a_group"]} pictures with distinct captions | recall at 1 |
| --- | --- |
| the picture for a caption | **{searched["picture_for_text_recall_at_1"]:.1%}** |
| the caption for a picture | {searched["text_for_picture_recall_at_1"]:.1%} |

The cosine of a picture with its own caption is {searched["mean_cosine_of_match"]:.3f} on average, with the others' {searched["mean_cosine_of_others"]:.3f}.
Embeddings are for finding candidates; the matching head tells them apart.

The demo's picture, `models/demo/demo.png`:

| text | true | probability | cosine |
| --- | --- | --- | --- |
{examples}

## Training
{bundle.told_runs("train_demo_match.py", metrics["training"])}

The demo's first vision layers, as many as are called frozen, stayed as they are; the rest, the text encoder, the head and the
projections were trained on scenes of `tools/demo/scenes.py`, with {metrics["training"][-1]["texts_a_picture"]} texts to match a picture, half of them false by
a word, and with whole captions and false ones to tell apart.
"""


def write(model, encoder, entries, folder, metrics):
    """Metrics and card; `model` is the saved one, loaded again."""
    metrics["model"] = bundle.dimensions(model, entries, folder) | {"embedding": model.config.image_text_hidden_size}
    metrics["demo_picture"] = of_demo_picture(model, encoder)
    bundle.write_json(folder / "metrics.json", metrics)
    rewrite_card(folder)


def rewrite_card(folder):
    (folder / "README.md").write_text(card(json.loads((folder / "metrics.json").read_text())))
