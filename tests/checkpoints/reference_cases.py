"""The results of `transformers` for a checkpoint folder, each case alone."""

import io
from dataclasses import dataclass, field

import numpy
import torch
import transformers
from golden_checkpoint import random_images
from goldens_generation import ranking, search
from goldens_tasks import embeddings, match
from transformers import AutoTokenizer, BlipConfig, BlipImageProcessorPil

QUESTIONS = (
    "what color is the umbrella?",
    "how many people are standing in front of the building?",
    "is it raining?",
)
CANDIDATES = ("yes", "no", "two", "a red umbrella", "on the beach", "on the table", "black and white")
PROMPTS = ("", "a picture of a dog")
TEXTS = ("a woman and her dog on the beach", "a red bus in the street", "cat")
# The default of a request, and the default of the original repository.
GREEDY = dict(max_new_tokens=20)
BEAMS = dict(num_beams=3, max_new_tokens=9)
NUM_ANSWERS = 3


@dataclass
class Case:
    """A text about an image, with its results: ids and scores, best first."""

    task: str
    image: int
    text: str
    ids: list = field(default_factory=list)
    scores: list = field(default_factory=list)


@dataclass
class Reference:
    """The images, and the cases with their results."""

    images: list  # PNG files
    cases: list


def case_images():
    """Returns the images of all cases."""
    return list(random_images(numpy.random.default_rng(7)))


def encoded(image):
    """Returns an image as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def generated(task, image, text, sequences):
    """Returns the case of sequences from `search`."""
    ids = [sequence["token_ids"] for sequence in sequences]
    return Case(task, image, text, ids, [sequence["score"] for sequence in sequences])


def answers(model, tokenizer, image, pixel_values):
    """Yields the cases of an answering model for one image."""
    states = model.vision_model(pixel_values).last_hidden_state
    for text in QUESTIONS:
        ids = torch.tensor([tokenizer(text).input_ids])
        inputs = dict(input_ids=ids, pixel_values=pixel_values)
        yield generated("answers", image, text, search(model, inputs, 0, GREEDY))
        beams = search(model, inputs, 0, BEAMS | {"num_sequences": NUM_ANSWERS})
        yield generated("answers by beams", image, text, beams)
        question_states = model.text_encoder(ids, encoder_hidden_states=states).last_hidden_state
        candidates = [tokenizer(answer, add_special_tokens=False).input_ids for answer in CANDIDATES]
        best = ranking(model, question_states, candidates, len(candidates))[:NUM_ANSWERS]
        scores = [score for entry in best for score in (entry["score"], entry["probability"])]
        yield Case("candidates", image, text, [entry["candidate"] for entry in best], scores)


def captions(model, tokenizer, image, pixel_values):
    """Yields the cases of a captioning model for one image."""
    for text in PROMPTS:
        ids = tokenizer(text).input_ids
        for task, options in (
            ("captions", GREEDY),
            ("captions by beams", BEAMS | {"num_sequences": NUM_ANSWERS}),
        ):
            # `generate` modifies its input.
            inputs = dict(input_ids=torch.tensor([ids]), pixel_values=pixel_values)
            yield generated(task, image, text, search(model, inputs, len(ids) - 2, options))


def matches(model, tokenizer, image, pixel_values):
    """Yields the cases of a matching model for one image."""
    for text in TEXTS:
        ids = torch.tensor([tokenizer(text).input_ids])
        logits, cosine = match(model, pixel_values, ids)
        probability = float(torch.tensor(logits).softmax(-1)[1])
        yield Case("matches", image, text, scores=[probability, cosine, *logits])
        of_image, of_text = embeddings(model, pixel_values, ids)
        yield Case("text embeddings", image, text, scores=of_text.tolist())
    yield Case("image embeddings", image, "", scores=of_image.tolist())


CASES = {
    "BlipForQuestionAnswering": answers,
    "BlipForConditionalGeneration": captions,
    "BlipForImageTextRetrieval": matches,
}


@torch.no_grad()
def compute(folder):
    """Returns the Reference of a checkpoint folder."""
    name = BlipConfig.from_pretrained(folder).architectures[0]
    model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = BlipImageProcessorPil.from_pretrained(folder)
    images = case_images()
    cases = []
    for index, image in enumerate(images):
        pixel_values = processor(image, return_tensors="pt").pixel_values
        cases += CASES[name](model, tokenizer, index, pixel_values)
    for task in {case.task for case in cases}:
        outcomes = [(case.ids or case.scores) for case in cases if case.task == task]
        assert any(outcome != outcomes[0] for outcome in outcomes), f"all results of {task} are equal"
    return Reference([encoded(image) for image in images], cases)
