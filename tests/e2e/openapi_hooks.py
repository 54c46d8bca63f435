"""Corrects the requests of schemathesis by rules that JSON Schema cannot express.

* There is one list of texts for each image.
* A request for embeddings has an image or a text.
* Some options exclude one another and have limits of the server.
* Some fields of a form are JSON.
"""

import json

import schemathesis

QUESTIONS = ["what?"]


def correct_json(body):
    """Corrects a JSON body."""
    body.pop("generation", None)
    inputs = body["inputs"]
    if not inputs.get("texts") or isinstance(inputs["texts"][0], str):
        if not inputs.get("images"):
            inputs["texts"] = QUESTIONS
        elif "texts" in inputs and not inputs["texts"]:
            inputs.pop("texts")
        return
    count = min(len(inputs["images"]), len(inputs["texts"]))
    inputs["images"] = inputs["images"][:count]
    inputs["texts"] = [questions or QUESTIONS for questions in inputs["texts"][:count]]


def correct_form(form, is_match):
    """Corrects a form, in which all images share the questions.

    Schemathesis validates the corrected form and rejects the bytes of a file, so that the image is
    text.
    """
    form["image"] = ["not an image"]
    form.pop("texts", None)
    form.pop("generation", None)
    if is_match:
        form["text"] = QUESTIONS
    else:
        form["questions"] = json.dumps(QUESTIONS)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Corrects requests that are meant to be valid."""
    if not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    if case.media_type == "multipart/form-data":
        correct_form(case.body, case.operation.path == "/v1/match")
    elif "inputs" in case.body:
        correct_json(case.body)
