"""What `transformers` makes of a checkpoint's folder, every case alone: the truth that the server is held to."""

import io
from dataclasses import dataclass, field

import numpy
import torch
import transformers
from goldens import pictures
from goldens_generation import ranking, search
from goldens_retrieval import match, vectors
from transformers import AutoTokenizer, BlipConfig, BlipImageProcessorPil

QUESTIONS = ("what color is the umbrella?", "how many people are standing in front of the building?", "is it raining?")
CANDIDATES = ("yes", "no", "two", "a red umbrella", "on the beach", "on the table", "black and white")
PROMPTS = ("", "a picture of a dog")
TEXTS = ("a woman and her dog on the beach", "a red bus in the street", "cat")
# As a request leaves it to the checkpoint, and as the original answers.
GREEDY = dict(max_new_tokens=20)
BEAMS = dict(num_beams=3, max_new_tokens=9)
NUM_ANSWERS = 3


@dataclass
class Case:
    """A request's text about one picture, and what came of it: ids and scores, the best first."""

    task: str
    image: int
    text: str
    ids: list = field(default_factory=list)
    scores: list = field(default_factory=list)


@dataclass
class Reference:
    pictures: list  # PNG files
    cases: list


def made_up_pictures():
    return list(pictures(numpy.random.default_rng(7)))


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def generated(task, image, text, sequences):
    """The case of sequences that `search` found."""
    return Case(task, image, text, [found["token_ids"] for found in sequences], [found["score"] for found in sequences])


def answers(model, tokenizer, image, pixel_values):
    states = model.vision_model(pixel_values).last_hidden_state
    for text in QUESTIONS:
        ids = torch.tensor([tokenizer(text).input_ids])
        inputs = dict(input_ids=ids, pixel_values=pixel_values)
        yield generated("answers", image, text, search(model, inputs, 0, GREEDY))
        yield generated("answers by beams", image, text, search(model, inputs, 0, BEAMS | {"num_sequences": NUM_ANSWERS}))
        memory = model.text_encoder(ids, encoder_hidden_states=states).last_hidden_state
        candidates = [tokenizer(answer, add_special_tokens=False).input_ids for answer in CANDIDATES]
        best = ranking(model, memory, candidates, len(candidates))[:NUM_ANSWERS]
        scores = [score for found in best for score in (found["score"], found["probability"])]
        yield Case("candidates", image, text, [found["candidate"] for found in best], scores)


def captions(model, tokenizer, image, pixel_values):
    for text in PROMPTS:
        ids = tokenizer(text).input_ids
        for task, options in (("captions", GREEDY), ("captions by beams", BEAMS | {"num_sequences": NUM_ANSWERS})):
            # `generate` writes into its input.
            inputs = dict(input_ids=torch.tensor([ids]), pixel_values=pixel_values)
            yield generated(task, image, text, search(model, inputs, len(ids) - 2, options))


def matches(model, tokenizer, image, pixel_values):
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text).input_ids])
        logits, cosine = match(model, pixel_values, ids)
        probability = float(torch.tensor(logits).softmax(-1)[1])
        yield Case("matches", image, text, scores=[probability, cosine, *logits])
        of_image, of_text = vectors(model, pixel_values, ids)
        yield Case("text vectors", image, text, scores=of_text.tolist())
    yield Case("image vectors", image, "", scores=of_image.tolist())


CASES = {
    "BlipForQuestionAnswering": answers,
    "BlipForConditionalGeneration": captions,
    "BlipForImageTextRetrieval": matches,
}


@torch.no_grad()
def compute(folder):
    name = BlipConfig.from_pretrained(folder).architectures[0]
    model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = made_up_pictures()
    cases = []
    for index, image in enumerate(images):
        pixel_values = processor(image, return_tensors="pt").pixel_values
        cases += CASES[name](model, tokenizer, index, pixel_values)
    for task in {case.task for case in cases}:
        outcomes = [(case.ids or case.scores) for case in cases if case.task == task]
        assert any(outcome != outcomes[0] for outcome in outcomes), f"{task} that all come out alike prove little"
    return Reference([encoded(image) for image in images], cases)
