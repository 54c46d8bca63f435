"""Corrects the requests of schemathesis by rules that JSON Schema cannot express.

* There is one list of texts for each image.
* A request for embeddings has an image or a text.
* Some options exclude one another and have limits of the server.
* Some fields of a form are JSON, and any value in place of a list is one element of it.
* A failed item fails the whole request of another server's API.
"""

import base64
import json
from pathlib import Path

import schemathesis

EXAMPLES = Path(__file__).resolve().parents[2] / "crates/server/src/http/examples"

# The files name the image of the examples.
IMAGE = "demo.png"
IMAGE_URL = f"data:image/png;base64,{base64.b64encode((EXAMPLES / IMAGE).read_bytes()).decode()}"

# The fields of forms that may be repeated.
LISTS = ("image", "question", "text")

QUESTIONS = ["what?"]


def correct_json(body):
    """Corrects a JSON body."""
    body.pop("generation", None)
    body.pop("model", None)
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
    form.pop("model", None)
    if is_match:
        form["text"] = QUESTIONS
    else:
        form["questions"] = json.dumps(QUESTIONS)


def correct_adapter(name, body, *options):
    """Replaces the contents of a request to an adapter, and removes options of the model."""
    body.update(json.loads((EXAMPLES / name).read_text().replace(IMAGE, IMAGE_URL)))
    for option in options:
        body.pop(option, None)


def correct_chat(body):
    options = ("n", "temperature", "top_p", "top_logprobs", "max_tokens", "max_completion_tokens")
    correct_adapter("chat_completion.json", body, *options)


def correct_embeddings(body):
    correct_adapter("embeddings.json", body, "dimensions")


def correct_task(body):
    correct_adapter("task.json", body, "parameters", "question", "normalize")


def correct_infer(body):
    correct_adapter("infer.json", body, "parameters", "outputs", "id")


def correct_predict(body):
    correct_adapter("predict.json", body, "parameters")


CORRECTIONS = {
    "/v1/chat/completions": correct_chat,
    "/v1/embeddings": correct_embeddings,
    "/": correct_task,
    "/models/{name}": correct_task,
    "/hf/{task}": correct_task,
    "/v2/models/{name}/infer": correct_infer,
    "/v1/models/{name}:predict": correct_predict,
    "/invocations": correct_predict,
}

# The path parameters of valid requests.
PARAMETERS = {"/hf/{task}": {"task": "visual-question-answering"}}


@schemathesis.hook
def before_call(context, case, kwargs):
    """Corrects requests that are meant to be valid, and forms that are meant to be invalid."""
    if not isinstance(case.body, dict):
        return
    if not case.meta.generation.mode.is_positive:
        is_element = any(not isinstance(case.body.get(name, []), list) for name in LISTS)
        if case.media_type == "multipart/form-data" and is_element:
            case.body["unknown"] = "a field that makes the form invalid"
        return
    if case.operation.path in CORRECTIONS:
        CORRECTIONS[case.operation.path](case.body)
        case.path_parameters = PARAMETERS.get(case.operation.path, {"name": "demo"})
    elif case.media_type == "multipart/form-data":
        correct_form(case.body, case.operation.path == "/v1/match")
    elif "inputs" in case.body:
        correct_json(case.body)
