"""Writes the finished model as a folder in Hugging Face's layout, with its picture and card."""

import json
import random
import time

import PIL
import torch
from safetensors.torch import load_file, save_file
from transformers import BlipForImageTextRetrieval, BlipForQuestionAnswering

from . import bank, evaluation, network, questions, scenes, training, wordpiece

DEMO_SEED = 20_251


def save(model, entries, folder):
    """Weights in f16, configuration, tokenizer, preprocessor; enough for `from_pretrained`."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"dtype": "float16"})
    text, side = model.config.text_config, model.config.vision_config.image_size
    if not isinstance(model, BlipForImageTextRetrieval):
        write_json(folder / "generation_config.json", {
            "bos_token_id": text.bos_token_id,
            "eos_token_id": text.sep_token_id,
            "max_new_tokens": evaluation.MAX_NEW_TOKENS,
            "pad_token_id": text.pad_token_id,
        })  # fmt: skip
    write_json(folder / "preprocessor_config.json", {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": network.MEAN,
        "image_processor_type": "BlipImageProcessor",
        "image_std": network.STD,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": side, "width": side},
    })  # fmt: skip
    wordpiece.save(entries, folder)


def load(folder, device="cpu", kind=BlipForQuestionAnswering):
    """The saved model as anyone gets it: f16 weights, computed in f32, nothing of ours attached."""
    return kind.from_pretrained(folder, dtype=torch.float32).eval().to(device)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def demo_scene():
    """The scene of the bundled picture, and three questions about it with their answers.

    It is the first of its own seed, unseen in training, that holds five things of four
    shapes and four colours or more and allows the three kinds of question.
    """
    rng = random.Random(DEMO_SEED)
    kinds = (questions.count, questions.beside, questions.is_beside)
    asked = []
    while not all(asked) or len(asked) != len(kinds):
        scene = scenes.sample(rng, 5, plain=True)
        variety = min(len({t.shape for t in scene.things}), len({t.color for t in scene.things}))
        if len(scene.things) == 5 and variety >= 4:
            # A count of none or one would say little about the picture.
            tries = [[kind(scene, rng) for _ in range(40)] for kind in kinds]
            asked = [next((found for found in some if found and found[1] not in "01"), None) for some in tries]
    return scene, asked


def demo_picture(model, encoder, folder):
    """Draws the bundled picture, asks the three questions about it, and keeps what the model said."""
    scene, asked = demo_scene()
    picture = scenes.draw(scene)
    picture.save(folder / "demo.png", optimize=True)
    side = model.config.vision_config.image_size
    pixels = network.normalise(torch.from_numpy(bank.shrink(picture, side).copy())[None])
    rows = [(0, encoder.tokenizer.encode(question + "?").ids) for question, _ in asked]
    told = [encoder.decode(answer.ids) for answer in evaluation.ask(model, pixels.__getitem__, rows)]
    return [{"question": q + "?", "answer": answer, "truth": truth} for (q, truth), answer in zip(asked, told, strict=True)]


def card(metrics):
    """The model card, every number of it taken from `metrics`."""
    m, own, easy = metrics["model"], metrics["own_scenes"], metrics["easy_vqa_test"]
    run = metrics["training"]
    kinds = "\n".join(f"| {name.replace('_', ' ')} | {share:.1%} |" for name, share in own["by_kind"].items())
    examples = "\n".join(f"| {e['question']} | {e['answer']} | {e['truth']} |" for e in metrics["demo_picture"])
    return f"""---
license: apache-2.0
pipeline_tag: visual-question-answering
library_name: transformers
---
# A small BLIP that knows shapes

The model that `blip-serve` serves when it is given no other: `BlipForQuestionAnswering` at a size that is
embedded in the program and answers in milliseconds on a processor. It knows pictures of coloured shapes and
nothing else: {", ".join(scenes.SHAPES)}; {", ".join(scenes.COLORS)}.
About photographs it talks nonsense.

| | |
| --- | --- |
| parameters | {m["parameters"]:,} |
| weights | {m["weight_bytes"] / 1e6:.1f} MB, f16 |
| picture | {m["image_size"]} x {m["image_size"]} pixels, patches of {m["patch_size"]} |
| vision | {m["vision_layers"]} layers, width {m["width"]}, {m["heads"]} heads |
| text encoder and decoder | {m["text_layers"]} layers each, width {m["width"]}, {m["heads"]} heads |
| vocabulary | {m["vocabulary"]} tokens |

## Data
* The **train** split of [easy-vqa](https://pypi.org/project/easy-vqa/), {run["easy_vqa_pictures"]:,} pictures of one shape.
  Its test split was used for nothing but the figure below.
* {run["own_scenes"]:,} scenes drawn by `tools/train_demo.py`: one to six shapes, {run["questions_per_scene"]} questions each about colours,
  shapes, counts, places, order, size, yes and no; pictures of 64 to 512 pixels, with noise, blur and JPEG among them.

## Accuracy
The whole answer must be right. Measured by the training script on the saved f16 weights, computed in f32,
every question unpadded.

| | questions | right | |
| --- | --- | --- | --- |
| easy-vqa, test split | {easy["questions"]:,} | {easy["right"]:,} | **{easy["accuracy"]:.2%}** |
| own scenes, held out | {own["questions"]:,} | {own["right"]:,} | **{own["accuracy"]:.2%}** |

Own scenes by kind of question:

| kind | |
| --- | --- |
{kinds}

The bundled picture, `demo.png`:

| question | the model's answer | truth |
| --- | --- | --- |
{examples}

## Training
`python tools/train_demo.py --seed {run["seed"]} --vision-steps {run["vision_steps"]} --steps {run["steps"]}`:
first the vision tower alone, naming shape and colour of every patch, then everything together;
{run["seconds"]:.0f} s on {run["device"]}. Questions of unlike length share a batch in training with the question mask
honoured in the decoder's cross-attention, so an answer does not depend on padding.
"""


def dimensions(model, entries, folder):
    """The figures of a saved model that its card gives."""
    config = model.config
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "weight_bytes": (folder / "model.safetensors").stat().st_size,
        "image_size": config.vision_config.image_size,
        "patch_size": config.vision_config.patch_size,
        "vision_layers": config.vision_config.num_hidden_layers,
        "text_layers": config.text_config.num_hidden_layers,
        "width": config.text_config.hidden_size,
        "heads": config.text_config.num_attention_heads,
        "vocabulary": len(entries),
    }


def earlier_runs(folder):
    """The `training_facts` of the runs that made what is in a folder, in order."""
    return json.loads((folder / "metrics.json").read_text())["training"]


def training_facts(options, steps):
    """What a card says of a run that trained a network begun from the demo."""
    return {
        "seed": options.seed,
        "device": f"{options.threads} thread{'s' * (options.threads > 1)} of a shared processor",
        "seconds": round(time.monotonic() - training.BEGUN, 1),
        "scenes": options.scenes,
        "frozen_vision_layers": options.frozen_layers,
        "steps": steps,
        "pictures_a_step": options.batch,
        "peak_learning_rate": options.learning_rate,
        "torch": torch.__version__,
        "pillow": PIL.__version__,
    }


def told_runs(script, runs):
    """The runs of a training script as a list in Markdown, and how to add one."""
    lines = []
    for number, run in enumerate(runs):
        options = {
            "seed": run["seed"], "scenes": run["scenes"], "frozen-layers": run["frozen_vision_layers"],
            "batch": run["pictures_a_step"], "steps": run["steps"], "learning-rate": run["peak_learning_rate"],
        }  # fmt: skip
        line = " ".join(f"--{name} {value}" for name, value in options.items()) + " --go-on" * (number > 0)
        lines.append(f"* `python tools/{script} {line}`: {run['seconds']:.0f} s on {run['device']}.")
    return "\n".join([*lines, "", f"`{script} --go-on` trains further from here and measures anew."])


def write(model, encoder, entries, folder, metrics):
    """Metrics, demo picture and card; `model` is the saved one, loaded again."""
    metrics["model"] = dimensions(model, entries, folder)
    metrics["demo_picture"] = demo_picture(model, encoder, folder)
    write_json(folder / "metrics.json", metrics)
    (folder / "README.md").write_text(card(metrics))


def rewrite_card(folder):
    (folder / "README.md").write_text(card(json.loads((folder / "metrics.json").read_text())))
