"""Answers, captions, match scores, embeddings and models of the sync and the async client."""

import asyncio
import math
import pickle

import pytest
from blip_serve_client import AsyncClient, CallError, GenerationOptions, Question
from servers import DEMO_IMAGE

COUNT, SQUARE = "how many things are in the image?", "is there a square?"


def test_question_has_answer_and_list_has_list(client):
    answer = client.ask(DEMO_IMAGE, COUNT)
    assert (answer.text, answer.candidate_index, answer.alternatives) == ("5", None, ())
    assert -0.1 < answer.score < 0 and answer.margin > 1 and answer.timing.total_ms > 0
    assert [each.text for each in client.ask(DEMO_IMAGE, [COUNT, SQUARE])] == ["5", "yes"]


def test_candidates_have_probability_and_index(client):
    answer = client.ask(DEMO_IMAGE, Question(SQUARE, candidates=["no", "yes"]))
    assert (answer.text, answer.candidate_index) == ("yes", 1)
    assert 0.5 < answer.probability <= 1


def test_generation_options_give_alternatives(client):
    options = GenerationOptions(num_beams=3, num_answers=3)
    answer = client.ask(DEMO_IMAGE, COUNT, generation=options, priority="high", model="demo")
    assert answer.text == "5" and len(answer.alternatives) == 2
    with pytest.raises(CallError) as error:
        client.ask(DEMO_IMAGE, COUNT, generation=GenerationOptions(num_beams=10_000))
    assert error.value.reason == "GENERATION_OUT_OF_RANGE"
    assert error.value.metadata["field"] == error.value.field == "generation.num_beams"


def test_explained_answers_have_a_weight_for_each_patch(client):
    assert client.ask(DEMO_IMAGE, COUNT).attention is None
    answers = client.ask(DEMO_IMAGE, [COUNT, Question(SQUARE, candidates=["no", "yes"])], explain=True)
    assert [answer.text for answer in answers] == ["5", "yes"]
    for answer in answers:
        assert (answer.attention.rows, answer.attention.columns) == (8, 8)
        assert len(answer.attention.weights) == 64
        assert math.fsum(answer.attention.weights) == pytest.approx(1, abs=1e-4)
    [result] = client.ask_many([(DEMO_IMAGE, COUNT)], explain=True)
    assert result.answer.attention.weights == pytest.approx(answers[0].attention.weights, abs=1e-5)


def test_captions_begin_with_their_prompts(client):
    prompts = ["a picture of", "there is"]
    captions = client.caption(DEMO_IMAGE, prompts)
    assert [caption.text.startswith(prompt) for caption, prompt in zip(captions, prompts)] == [True, True]
    assert "triangle" in client.caption(DEMO_IMAGE).text


def test_match_scores_are_probability_cosine_and_logits(client):
    one = client.match(DEMO_IMAGE, "a red triangle")
    assert 0 <= one.probability <= 1 and -1 <= one.cosine <= 1 and len(one.logits) == 2
    several = client.match(DEMO_IMAGE, ["a red triangle", "two blue circles"])
    assert several[0].probability == pytest.approx(one.probability, abs=1e-4)


def test_embeddings_keep_the_order_of_images_and_texts(client, demo_image):
    texts = ["a red triangle", "two blue circles"]
    embeddings = client.embed(images=[DEMO_IMAGE, demo_image], texts=texts)
    assert (len(embeddings.images), len(embeddings.texts)) == (2, 2)
    assert embeddings.images[0].values == pytest.approx(embeddings.images[1].values, abs=1e-5)
    cosine = client.match(DEMO_IMAGE, texts[1]).cosine
    product = sum(map(lambda a, b: a * b, embeddings.images[0].values, embeddings.texts[1].values))
    assert product == pytest.approx(cosine, abs=1e-4)
    assert math.hypot(*embeddings.texts[0].values) == pytest.approx(1, abs=1e-4)


def test_models_have_names_and_tasks(client):
    tasks = {model.name: model.task for model in client.models()}
    assert tasks == {"demo": "question_answering", "demo-caption": "captioning", "demo-match": "matching"}
    assert client.model("demo-match").embedding_size == 256
    assert client.model().name == "demo"


def test_async_client_has_the_results_of_the_sync_client(demo, client):
    async def run():
        async with AsyncClient(demo.address) as other:
            return await asyncio.gather(
                other.ask(DEMO_IMAGE, [COUNT, SQUARE]),
                other.caption(DEMO_IMAGE),
                other.match(DEMO_IMAGE, ["a red triangle"]),
                other.embed(texts=["a red triangle"]),
                other.models(),
            )

    answers, caption, scores, embeddings, models = asyncio.run(run())
    assert [answer.text for answer in answers] == ["5", "yes"]
    assert caption.text == client.caption(DEMO_IMAGE).text
    assert scores[0].cosine == pytest.approx(client.match(DEMO_IMAGE, "a red triangle").cosine, abs=1e-4)
    assert len(embeddings.texts[0].values) == 256
    assert models == client.models()


@pytest.mark.parametrize("call", ["ask", "caption", "match"])
def test_call_without_texts_is_rejected(client, call):
    with pytest.raises(ValueError, match="is empty: expected at least one"):
        getattr(client, call)(DEMO_IMAGE, [])
    with pytest.raises(ValueError, match="unknown priority: 'urgent'"):
        getattr(client, call)(DEMO_IMAGE, "a", priority="urgent")


def test_results_and_errors_can_be_pickled(client):
    answer = client.ask(DEMO_IMAGE, COUNT)
    assert pickle.loads(pickle.dumps(answer)) == answer
    with pytest.raises(CallError) as error:
        client.ask(DEMO_IMAGE, COUNT, model="missing")
    copy = pickle.loads(pickle.dumps(error.value))
    assert (str(copy), copy.metadata) == (str(error.value), error.value.metadata)
