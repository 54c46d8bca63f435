"""Writes the golden files of attention maps.

    crates/blip/tests/attention/NAME.safetensors   for every case of a checkpoint
    crates/blip/tests/attention/demo.safetensors   for questions about the demo image

The first belong to the checkpoints, questions and images that `goldens.py` writes. Each map is
computed from what `transformers` returns with `output_attentions=True`, for one question alone:

    mapN.case       [1]                  i64, the case of `expected.json`, if there is one
    mapN.answer     [tokens]             i64, with the stop token if the answer has one
    mapN.weights    [rows, columns]      f32
    mapN.input_ids  [tokens]             i64, only for the demo image
    pixels          [size, size, 3]      u8, only for the demo image

    python tests/reference/generate/goldens_attention.py
"""

import json

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BlipForQuestionAnswering, BlipImageProcessorPil

from golden_cases import CASES
from golden_checkpoint import BLIP_TESTS, GOLDENS, ROOT, scaled

DEMO = ROOT / "models/demo"
MAPS = BLIP_TESTS / "attention"
DEMO_QUESTIONS = (
    "what color is the triangle?",
    "what shape is red?",
    "how many stars are in the picture?",
    "is there a gray rectangle?",
    "what is in the picture?",
)


def mean_weights(attentions):
    """Returns the mean over layers and heads, [queries, keys], of one row."""
    return torch.stack(attentions).mean((0, 2))[0]


def step_weights(model, states, read):
    """Returns the attention to a question's states of the steps that read the tokens `read`."""
    steps = model.text_decoder(
        torch.tensor([read]),
        encoder_hidden_states=states,
        is_decoder=True,
        use_cache=False,
        output_attentions=True,
    )
    return mean_weights(steps.cross_attentions)


def attention_map(model, pixel_values, input_ids, answer):
    """Returns the attention of an answer's tokens to the patches, [rows, columns]."""
    config = model.config.text_config
    images = model.vision_model(pixel_values).last_hidden_state
    question = model.text_encoder(input_ids, encoder_hidden_states=images, output_attentions=True)
    text = answer[:-1] if answer[-1:] == [config.sep_token_id] else answer
    # The step that reads a token chooses the next one.
    read = [config.bos_token_id, *text[:-1]]
    states = question.last_hidden_state
    steps = step_weights(model, states, read)
    # A step does not depend on later ones, as when the answer is generated token by token.
    alone = [step_weights(model, states, read[: end + 1])[-1] for end in range(len(read))]
    torch.testing.assert_close(torch.stack(alone), steps, rtol=1e-4, atol=1e-5)
    weights = (steps @ mean_weights(question.cross_attentions)).mean(0)
    patches = weights[1:]  # the class token has no place in the image
    side = model.config.vision_config.image_size // model.config.vision_config.patch_size
    return (patches / patches.sum()).reshape(side, side)


def load(folder):
    return BlipForQuestionAnswering.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@torch.no_grad()
def write_golden(golden):
    """Writes the maps of one `Golden`: of each answer, and of a longer text for each question."""
    folder = GOLDENS / golden.name
    model, expected = load(folder), load_file(folder / "expected.safetensors")
    generation = json.loads((folder / "generation.json").read_text())
    candidates = generation["rankings"][0]["candidates"]
    tensors = {}
    for case in range(len(golden.lengths)):
        inputs = expected[f"case{case}.pixel_values"][None], expected[f"case{case}.input_ids"][None]
        answer = expected[f"case{case}.generated_ids"][1:].tolist()
        for ids in (answer, max(candidates[case::6], key=len)):
            name = f"map{len(tensors) // 3}"
            tensors[f"{name}.case"] = torch.tensor([case])
            tensors[f"{name}.answer"] = torch.tensor(ids)
            tensors[f"{name}.weights"] = attention_map(model, *inputs, ids).contiguous()
    save_file(tensors, MAPS / f"{golden.name}.safetensors")
    return len(tensors) // 3


@torch.no_grad()
def write_demo():
    """Writes the maps of the demo model."""
    model, processor = load(DEMO), BlipImageProcessorPil.from_pretrained(DEMO)
    tokenizer = Tokenizer.from_file(str(DEMO / "tokenizer.json"))
    image = Image.open(DEMO / "demo.png").convert("RGB")
    pixel_values = processor(image, return_tensors="pt").pixel_values
    tensors = {"pixels": scaled(image, model.config.vision_config.image_size)}
    for index, question in enumerate(DEMO_QUESTIONS):
        input_ids = torch.tensor([tokenizer.encode(question).ids])
        answer = model.generate(input_ids=input_ids, pixel_values=pixel_values)[0, 1:].tolist()
        weights = attention_map(model, pixel_values, input_ids, answer)
        tensors[f"map{index}.input_ids"] = input_ids[0]
        tensors[f"map{index}.answer"] = torch.tensor(answer)
        tensors[f"map{index}.weights"] = weights.contiguous()
        print(f"{question} {tokenizer.decode(answer)}: most weight {weights.max():.3f}")
    save_file(tensors, MAPS / "demo.safetensors")


def main():
    MAPS.mkdir(exist_ok=True)
    torch.set_num_threads(1)  # the order of additions is the same on every machine
    for golden in CASES:
        print(f"{golden.name:16} {write_golden(golden)} maps")
    write_demo()


if __name__ == "__main__":
    main()
