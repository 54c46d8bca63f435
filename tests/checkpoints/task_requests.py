"""Requests to a server for the cases of the reference.

Several cases of one task share a request.
"""

from reference_cases import BEAMS, CANDIDATES, NUM_ANSWERS

BLIP = "blip.v1.BlipService"
TIMEOUT_S = 300


def ask(client, images, cases, model=""):
    """Returns (ids, scores) of each case. All cases have the same task."""
    return TASKS[cases[0].task](client, images, cases, model)


def call(client, method, request):
    """Returns the responses. Fails if one of them is an error."""
    responses = list(client.method(BLIP, method)(request, timeout=TIMEOUT_S))
    failed = [response for response in responses if response.WhichOneof("outcome") == "error"]
    assert not failed, failed
    return responses


def group_by_image(cases):
    """Returns the texts of each image, and the position of each case among them."""
    texts, positions = {}, []
    for case in cases:
        of_image = texts.setdefault(case.image, [])
        positions.append((list(texts).index(case.image), len(of_image)))
        of_image.append(case.text)
    return texts, positions


def set_beams(generation):
    """Selects beam search with several answers."""
    for name, value in (BEAMS | {"num_answers": NUM_ANSWERS}).items():
        setattr(generation, name, value)


def sequences(generated):
    """Returns the ids and scores of an answer or a caption and its alternatives."""
    every = [generated, *generated.alternatives]
    return [list(each.token_ids) for each in every], [each.score for each in every]


def answers(client, images, cases, model, beams=False, candidates=()):
    """Answers questions greedily, by beam search, or from candidates."""
    texts, positions = group_by_image(cases)
    request = client.request([(images[image], questions) for image, questions in texts.items()])
    request.model = model
    for question in (question for entry in request.inputs for question in entry.questions):
        question.candidates.extend(candidates)
    if beams:
        set_beams(request.generation)
    if candidates:
        request.generation.num_answers = NUM_ANSWERS
    responses = call(client, "Ask", request)
    results = {(response.image_index, response.question_index): response.answer for response in responses}
    return [(ranked if candidates else sequences)(results[position]) for position in positions]


def ranked(answer):
    """Returns the candidate indices and the scores of an answer and its alternatives."""
    every = [answer, *answer.alternatives]
    scores = [score for each in every for score in (each.score, each.probability)]
    return [each.candidate_index for each in every], scores


def captions(client, images, cases, model, beams=False):
    """Captions images. Greedy captions are streamed, and their pieces must equal the whole."""
    texts, positions = group_by_image(cases)
    request = client.type("blip.v1.CaptionRequest")(model=model, stream_tokens=not beams)
    for image, prompts in texts.items():
        entry = request.inputs.add()
        entry.image.data = images[image]
        entry.prompts.extend(prompts)
    if beams:
        set_beams(request.generation)
    results, pieces = {}, {}
    for response in call(client, "Caption", request):
        position = (response.image_index, response.prompt_index)
        if response.WhichOneof("outcome") == "piece":
            pieces.setdefault(position, []).append(response.piece.token_id)
        else:
            results[position] = response.caption
    for position, case in zip(positions, cases, strict=True):
        assert results[position].text.startswith(case.text)
        assert beams or pieces[position] == list(results[position].token_ids)
    return [sequences(results[position]) for position in positions]


def matches(client, images, cases, model):
    """Matches texts with images."""
    texts, positions = group_by_image(cases)
    request = client.type("blip.v1.MatchRequest")(model=model)
    for image, compared in texts.items():
        entry = request.inputs.add()
        entry.image.data = images[image]
        entry.texts.extend(compared)
    results = {
        (response.image_index, response.text_index): getattr(response, "match")
        for response in call(client, "Match", request)
    }
    return [
        ([], [results[position].probability, results[position].cosine, *results[position].logits])
        for position in positions
    ]


def embeddings(client, images, cases, model, of):
    """Embeds the images or the texts of the cases."""
    request = client.type("blip.v1.EmbedRequest")(model=model)
    for case in cases:
        if of == "image":
            request.images.add().data = images[case.image]
        else:
            request.texts.append(case.text)
    results = {
        getattr(response, f"{of}_index"): list(response.embedding.values)
        for response in call(client, "Embed", request)
    }
    return [([], results[index]) for index in range(len(cases))]


def with_options(ask_task, **options):
    """Returns a function with fixed options."""
    return lambda *arguments: ask_task(*arguments, **options)


TASKS = {
    "answers": answers,
    "answers by beams": with_options(answers, beams=True),
    "candidates": with_options(answers, candidates=CANDIDATES),
    "captions": captions,
    "captions by beams": with_options(captions, beams=True),
    "matches": matches,
    "text embeddings": with_options(embeddings, of="text"),
    "image embeddings": with_options(embeddings, of="image"),
}
