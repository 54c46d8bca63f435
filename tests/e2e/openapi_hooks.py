"""What JSON Schema cannot say about a request, said to schemathesis: there is one list of texts for each image, a request for
vectors has an image or a text, some options exclude one another and have limits of the server's own, and some fields of a form
are JSON themselves."""

import json

import schemathesis

QUESTIONS = ["what?"]


def mend_json(body):
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


def mend_form(form, is_match):
    """The images share their questions. Schemathesis looks at what was mended again, and there takes the bytes of a file
    for a wrong value, so text stands in for them."""
    form["image"] = ["no picture"]
    form.pop("texts", None)
    form.pop("generation", None)
    if is_match:
        form["text"] = QUESTIONS
    else:
        form["questions"] = json.dumps(QUESTIONS)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Requests that are meant to be wrong stay so."""
    if not case.meta.generation.mode.is_positive or not isinstance(case.body, dict):
        return
    if case.media_type == "multipart/form-data":
        mend_form(case.body, case.operation.path == "/v1/match")
    elif "inputs" in case.body:
        mend_json(case.body)
