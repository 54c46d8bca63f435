"""The easy-vqa data set (PyPI `easy-vqa`) in one fixed order, which all scripts share."""

import dataclasses

import easy_vqa


@dataclasses.dataclass(frozen=True)
class Question:
    """A question: the index of its image, its text and the correct answer."""

    image: int
    text: str
    answer: str


def load():
    """Returns `(paths, questions)` of the test split: 1,000 images and 9,673 questions."""
    paths = easy_vqa.get_test_image_paths()
    ids = sorted(paths)
    index = {image: position for position, image in enumerate(ids)}
    texts, answers, images = easy_vqa.get_test_questions()
    questions = [
        Question(index[image], text, answer)
        for text, answer, image in zip(texts, answers, images, strict=True)
    ]
    return [paths[image] for image in ids], questions
