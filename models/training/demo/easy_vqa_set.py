"""The test split of easy-vqa (PyPI `easy-vqa`), in one order that all tools share."""

import dataclasses

import easy_vqa


@dataclasses.dataclass(frozen=True)
class Question:
    """One question: which picture (an index into `pictures()`), its text, the right answer."""

    picture: int
    text: str
    answer: str


def load():
    """`(paths, questions)` of the test split: 1,000 pictures, 9,673 questions."""
    paths = easy_vqa.get_test_image_paths()
    ids = sorted(paths)
    index = {image: position for position, image in enumerate(ids)}
    texts, answers, images = easy_vqa.get_test_questions()
    questions = [Question(index[i], text, answer) for text, answer, i in zip(texts, answers, images, strict=True)]
    return [paths[i] for i in ids], questions
