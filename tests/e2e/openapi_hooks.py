"""What JSON Schema cannot say about a request, said to schemathesis: there is one list of questions for each image, and
some fields of a form are JSON themselves."""

import json

import schemathesis

QUESTIONS = ["what?"]


def mend_json(inputs):
    count = min(len(inputs["images"]), len(inputs["texts"]))
    inputs["images"] = inputs["images"][:count]
    inputs["texts"] = [questions or QUESTIONS for questions in inputs["texts"][:count]]


def mend_form(form):
    """The images share their questions. Schemathesis looks at what was mended again, and there takes the bytes of a file
    for a wrong value, so text stands in for them."""
    form["image"] = ["no picture"]
    form.pop("texts", None)
    form["questions"] = json.dumps(QUESTIONS)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Requests that are meant to be wrong stay so."""
    if not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    if case.media_type == "multipart/form-data":
        mend_form(case.body)
    elif "inputs" in case.body:
        mend_json(case.body["inputs"])
