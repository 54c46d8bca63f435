"""What JSON Schema cannot say about a request, said to schemathesis: there is one list of questions for each image."""

import schemathesis


def one_list_for_each_image(inputs):
    texts, images = inputs["texts"], inputs["images"]
    count = min(len(texts), len(images))
    inputs.update(texts=[questions or ["what?"] for questions in texts[:count]], images=images[:count])


@schemathesis.hook
def map_body(context, body):
    """Only valid bodies are mended: wrong ones are meant to be."""
    inputs = body.get("inputs") if isinstance(body, dict) else None
    if isinstance(inputs, dict) and all(isinstance(inputs.get(name), list) for name in ("texts", "images")):
        if all(isinstance(questions, list) for questions in inputs["texts"]):
            one_list_for_each_image(inputs)
    return body
