"""Asks a server what the reference was asked: several cases of one task are one request."""

from reference import BEAMS, CANDIDATES, NUM_ANSWERS

BLIP = "blip.v1.BlipService"
TIMEOUT_S = 300


def ask(client, pictures, cases, model=""):
    """(ids, scores) of each case; all are of one task."""
    return TASKS[cases[0].task](client, pictures, cases, model)


def call(client, method, request):
    responses = list(client.method(BLIP, method)(request, timeout=TIMEOUT_S))
    failed = [response for response in responses if response.WhichOneof("outcome") == "error"]
    assert not failed, failed
    return responses


def laid_out(cases):
    """The texts about each picture, and where among them each case is."""
    texts, places = {}, []
    for case in cases:
        of_picture = texts.setdefault(case.image, [])
        places.append((list(texts).index(case.image), len(of_picture)))
        of_picture.append(case.text)
    return texts, places


def set_beams(generation):
    for name, value in (BEAMS | {"num_answers": NUM_ANSWERS}).items():
        setattr(generation, name, value)


def sequences(written):
    """Of an answer or a caption and its alternatives."""
    all_of_them = [written, *written.alternatives]
    return [list(each.token_ids) for each in all_of_them], [each.score for each in all_of_them]


def answers(client, pictures, cases, model, beams=False, candidates=()):
    texts, places = laid_out(cases)
    request = client.request([(pictures[image], asked) for image, asked in texts.items()])
    request.model = model
    for question in (question for entry in request.inputs for question in entry.questions):
        question.candidates.extend(candidates)
    if beams:
        set_beams(request.generation)
    if candidates:
        request.generation.num_answers = NUM_ANSWERS
    responses = call(client, "Ask", request)
    found = {(response.image_index, response.question_index): response.answer for response in responses}
    return [(ranked if candidates else sequences)(found[place]) for place in places]


def ranked(answer):
    all_of_them = [answer, *answer.alternatives]
    scores = [score for each in all_of_them for score in (each.score, each.probability)]
    return [each.candidate_index for each in all_of_them], scores


def captions(client, pictures, cases, model, beams=False):
    """Greedy ones piece by piece: their pieces have to make them up."""
    texts, places = laid_out(cases)
    request = client.type("blip.v1.CaptionRequest")(model=model, stream_tokens=not beams)
    for image, prompts in texts.items():
        entry = request.inputs.add()
        entry.image.data = pictures[image]
        entry.prompts.extend(prompts)
    if beams:
        set_beams(request.generation)
    found, pieces = {}, {}
    for response in call(client, "Caption", request):
        place = (response.image_index, response.prompt_index)
        if response.WhichOneof("outcome") == "piece":
            pieces.setdefault(place, []).append(response.piece.token_id)
        else:
            found[place] = response.caption
    for place, case in zip(places, cases, strict=True):
        assert found[place].text.startswith(case.text)
        assert beams or pieces[place] == list(found[place].token_ids)
    return [sequences(found[place]) for place in places]


def matches(client, pictures, cases, model):
    texts, places = laid_out(cases)
    request = client.type("blip.v1.MatchRequest")(model=model)
    for image, compared in texts.items():
        entry = request.inputs.add()
        entry.image.data = pictures[image]
        entry.texts.extend(compared)
    found = {(response.image_index, response.text_index): getattr(response, "match") for response in call(client, "Match", request)}
    return [([], [found[place].probability, found[place].cosine, *found[place].logits]) for place in places]


def vectors(client, pictures, cases, model, of):
    request = client.type("blip.v1.EmbedRequest")(model=model)
    for case in cases:
        if of == "image":
            request.images.add().data = pictures[case.image]
        else:
            request.texts.append(case.text)
    found = {getattr(response, f"{of}_index"): list(response.embedding.values) for response in call(client, "Embed", request)}
    return [([], found[index]) for index in range(len(cases))]


def with_options(ask_task, **options):
    return lambda *given: ask_task(*given, **options)


TASKS = {
    "answers": answers,
    "answers by beams": with_options(answers, beams=True),
    "candidates": with_options(answers, candidates=CANDIDATES),
    "captions": captions,
    "captions by beams": with_options(captions, beams=True),
    "matches": matches,
    "text vectors": with_options(vectors, of="text"),
    "image vectors": with_options(vectors, of="image"),
}
