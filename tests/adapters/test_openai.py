"""OpenAI's API, with the packages openai and langchain-openai."""

import math
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import openai
import pytest
from conftest import COUNT, KEY, SQUARE, TEXTS, TIMEOUT_S
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def connect(server, key="none"):
    return openai.OpenAI(base_url=f"{server.http}/v1", api_key=key, max_retries=0, timeout=TIMEOUT_S)


@pytest.fixture(scope="session")
def client(demo):
    with connect(demo) as client:
        yield client


def message(*parts):
    """Returns a message of texts, and of images as `(url,)`."""

    def part(content):
        if isinstance(content, str):
            return {"type": "text", "text": content}
        return {"type": "image_url", "image_url": {"url": content[0]}}

    return [{"role": "user", "content": [part(content) for content in parts]}]


def complete(client, *parts, model="demo", **options):
    return client.chat.completions.create(model=model, messages=message(*parts), **options)


def contents(completion):
    return [choice.message.content for choice in completion.choices]


def test_chat_has_the_answer_of_ask(client, native, data_url):
    [(answer, details)] = native.ask(COUNT)
    completion = complete(client, COUNT, (data_url,), max_tokens=4096, temperature=0, seed=1)
    assert contents(completion) == [answer] == ["5"]
    assert completion.object == "chat.completion" and completion.model == "demo"
    assert completion.id.startswith("chatcmpl-") and completion.created > 1_700_000_000
    [choice] = completion.choices
    assert (choice.finish_reason, choice.message.role, choice.logprobs) == ("stop", "assistant", None)
    tokens = len(details["token_ids"])
    # Seven words, the question mark, and the tokens that begin and end the question.
    usage = completion.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (10, tokens, 10 + tokens)


def test_each_image_and_text_has_a_line(client, native, data_url):
    answers = [answer for answer, _ in native.ask(COUNT, SQUARE)]
    completion = complete(client, COUNT, (data_url,), (data_url,), SQUARE)
    assert contents(completion) == ["\n".join(answers * 2)]


def test_choices_and_log_probabilities_are_the_alternatives(client, native, data_url):
    [(answer, details)] = native.ask(COUNT, generation={"num_answers": 3, "length_penalty": 0.0})
    alternatives = details["alternatives"]
    completion = complete(client, COUNT, (data_url,), n=2, logprobs=True, top_logprobs=3)
    assert contents(completion) == [answer, alternatives[0]["text"]]
    [entry] = completion.choices[0].logprobs.content
    assert entry.token == answer and bytes(entry.bytes).decode() == answer
    assert entry.logprob == pytest.approx(details["score"], abs=1e-4)
    best = [(top.token, top.logprob) for top in entry.top_logprobs]
    assert [token for token, _ in best] == [answer, *(other["text"] for other in alternatives)]
    scores = [details["score"], *(other["score"] for other in alternatives)]
    assert [logprob for _, logprob in best] == pytest.approx(scores, abs=1e-4)


def test_same_seed_samples_the_same_answer(client, native, data_url):
    options = {"temperature": 1.5, "top_p": 0.9, "seed": 7}
    [(answer, _)] = native.ask(COUNT, generation=options)
    assert contents(complete(client, COUNT, (data_url,), **options)) == [answer]


def test_token_limit_ends_an_answer_by_length(client, data_url):
    [choice] = complete(client, COUNT, (data_url,), max_completion_tokens=1).choices
    assert choice.finish_reason == "length"


def test_message_without_text_is_captioned(client, native, data_url):
    [caption] = native.caption()
    for model in ("demo-caption", "dummy"):
        completion = complete(client, (data_url,), model=model)
        assert (contents(completion), completion.model) == ([caption], "demo-caption")
    [prompted] = native.caption("a picture of")
    assert contents(complete(client, "a picture of", (data_url,), model="demo-caption")) == [prompted]


def streamed(client, *parts, **options):
    """Returns the text of each choice, the finish reasons, and the chunks of a stream."""
    texts, reasons, chunks = {}, {}, list(complete(client, *parts, stream=True, **options))
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index)
    return texts, reasons, chunks


def test_stream_joins_to_the_same_answers(client, data_url):
    parts = (COUNT, (data_url,), SQUARE)
    whole = complete(client, *parts, n=2)
    texts, reasons, chunks = streamed(client, *parts, n=2, stream_options={"include_usage": True})
    assert [texts[index] for index in range(2)] == contents(whole)
    assert [reasons[index] for index in range(2)] == [choice.finish_reason for choice in whole.choices]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage


def test_caption_streams_while_it_is_generated(client, native, data_url):
    [caption] = native.caption()
    texts, _, chunks = streamed(client, (data_url,), model="demo-caption")
    assert texts == {0: caption} and len(chunks) > 4


@pytest.fixture
def images(demo_image):
    """The URL of a server of the demo image."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/image" else 404)
            self.send_header("content-length", str(len(demo_image)))
            self.end_headers()
            self.wfile.write(demo_image)

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_image_by_url_is_fetched(start, images):
    port = images.server_address[1]
    server = start("--fetch-allow-networks", "127.0.0.1/32", "--fetch-allow-ports", str(port))
    base = f"http://127.0.0.1:{port}"
    with connect(server) as client:
        assert contents(complete(client, COUNT, (f"{base}/image",))) == ["5"]
        with pytest.raises(openai.APIStatusError) as error:
            complete(client, COUNT, (f"{base}/image",), (f"{base}/missing",))
    assert error.value.status_code == 424 and error.value.code == "URL_BAD_STATUS"
    assert error.value.param == "messages[0].content[2].image_url.url"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"stop": ["."]}, "stop"),
        ({"n": 99}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"extra_body": {"top_k": 5}}, None),
    ],
)
def test_option_that_a_model_cannot_obey_is_named(client, data_url, options, param):
    with pytest.raises(openai.BadRequestError) as error:
        complete(client, COUNT, (data_url,), **options)
    assert error.value.type == "invalid_request_error"
    assert error.value.param == param or "unknown field `top_k`" in error.value.body["message"]


def test_failed_image_has_the_error_of_its_part(client, data_url):
    bad = ("data:image/png;base64,a*",)
    for call, kind, position in (
        (lambda: complete(client, COUNT, (data_url,), bad), openai.BadRequestError, 2),
        (lambda: complete(client, COUNT, bad, stream=True), openai.BadRequestError, 1),
        # The status was sent with the first answer.
        (lambda: list(complete(client, COUNT, (data_url,), bad, stream=True)), openai.APIError, 2),
    ):
        with pytest.raises(kind) as error:
            call()
        assert error.value.code == "URL_INVALID"
        assert error.value.param == f"messages[0].content[{position}].image_url.url"


def test_unknown_model_is_not_found(client, data_url):
    with pytest.raises(openai.NotFoundError) as error:
        complete(client, COUNT, (data_url,), model="gpt-4o")
    assert error.value.code == "MODEL_UNKNOWN" and "demo-caption" in str(error.value)
    with pytest.raises(openai.BadRequestError) as error:
        complete(client, COUNT, (data_url,), model="demo-match")
    assert error.value.code == "MODEL_TASK_MISMATCH"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_other_routes_state_what_is_supported(demo, client):
    other = openai.OpenAI(base_url=demo.http, api_key="none", max_retries=0, timeout=TIMEOUT_S)
    for call, path in (
        (lambda: client.responses.create(model="demo", input="a"), "/v1/responses"),
        (lambda: client.completions.create(model="demo", prompt="a"), "/v1/completions"),
        (lambda: client.moderations.create(input="a"), "/v1/moderations"),
        (lambda: client.files.list(), "/v1/files"),
        # A base URL without /v1.
        (lambda: complete(other, "a"), "/chat/completions"),
    ):
        with pytest.raises(openai.NotFoundError) as error:
            call()
        assert error.value.code == "ROUTE_UNSUPPORTED"
        expected = f"unsupported route {path}, expected one of POST /v1/chat/completions, "
        assert error.value.body["message"].startswith(expected)
    refused = demo.get("/v1/chat/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json()["error"]["code"] == "METHOD_REFUSED"


def test_key_in_the_header_is_checked(start, data_url):
    server = start("--auth-keys", KEY)
    with connect(server, "wrong") as client, pytest.raises(openai.AuthenticationError) as error:
        complete(client, COUNT, (data_url,))
    assert error.value.code == "API_KEY_INVALID"
    with connect(server, KEY) as client:
        assert contents(complete(client, COUNT, (data_url,))) == ["5"]
        assert [model.id for model in client.models.list()] == ["demo"]


def test_rate_limit_is_retried_by_the_client(start, data_url, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\nname = "a"\nkey = "{KEY}"\nquestions_per_s = 1\nburst = 1\n')
    server = start("--auth-keys-file", str(keys))
    with connect(server, KEY) as client:
        answers = [contents(complete(client, COUNT, (data_url,)))]
        with pytest.raises(openai.RateLimitError) as error:
            complete(client, COUNT, (data_url,))
        assert error.value.type == "rate_limit_error"
        assert int(error.value.response.headers["retry-after"]) >= 1
        patient = client.with_options(max_retries=5)
        answers.append(contents(complete(patient, COUNT, (data_url,))))
    assert answers == [["5"], ["5"]]


def test_models_are_listed_and_retrieved(client):
    models = client.models.list().data
    assert [model.id for model in models] == ["demo", "demo-caption", "demo-match"]
    assert {model.object for model in models} == {"model"}
    model = client.models.retrieve("demo-match")
    assert (model.id, model.created, model.owned_by) == ("demo-match", 0, "demo-match")
    assert model.task == "matching"


def test_embeddings_equal_in_both_encodings(client, native):
    expected = native.embed(*TEXTS)["texts"]
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-4) for vector in expected)
    for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}):
        response = client.embeddings.create(model="demo-match", input=TEXTS, **options)
        assert [entry.index for entry in response.data] == [0, 1, 2]
        for entry, vector in zip(response.data, expected):
            embedding = entry.embedding
            if options.get("encoding_format") == "base64":
                assert isinstance(embedding, str)
                continue
            assert embedding == pytest.approx(vector, abs=1e-5)
    one = client.embeddings.create(model="dummy", input=TEXTS[0], dimensions=len(expected[0]))
    assert one.data[0].embedding == pytest.approx(expected[0], abs=1e-5) and one.model == "demo-match"
    # Three words, and the tokens that begin and end the text.
    assert (one.usage.prompt_tokens, one.usage.total_tokens) == (5, 5)


def test_embedding_errors_name_the_input(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="demo-match", input=["a", " "])
    assert (error.value.code, error.value.param) == ("QUESTION_EMPTY", "input[1]")
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="demo-match", input=[[1, 2, 3]])
    assert error.value.param == "input[0]" and "token ids" in str(error.value)
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="demo-match", input="a", dimensions=7)
    assert error.value.param == "dimensions"


def test_langchain_chat_answers_and_streams(demo, native, data_url):
    [(answer, _)] = native.ask(COUNT)
    chat = ChatOpenAI(model="demo", base_url=f"{demo.http}/v1", api_key="none", max_retries=0, temperature=0)
    question = HumanMessage(content=message(COUNT, (data_url,))[0]["content"])
    response = chat.invoke([question])
    assert response.content == answer and response.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.content for chunk in chat.stream([question])) == answer
    with pytest.raises(openai.BadRequestError, match="no system prompt"):
        chat.invoke([SystemMessage(content="Be brief."), question])


def test_langchain_embeds_texts(demo, native):
    options = {"model": "demo-match", "base_url": f"{demo.http}/v1", "api_key": "none"}
    embeddings = OpenAIEmbeddings(**options, check_embedding_ctx_length=False)
    [expected, _] = native.embed(*TEXTS[:2])["texts"]
    assert embeddings.embed_documents(TEXTS[:2])[0] == pytest.approx(expected, abs=1e-5)


def test_hostile_requests_have_bounded_errors(demo, data_url):
    image = {"type": "image_url", "image_url": {"url": data_url}}
    deep = '{"messages":' + "[" * 100_000
    chat = {"messages": [{"role": "user", "content": [image]}]}
    for body in (
        deep.encode(),
        b'{"messages":[{"role":"user","content":5}]}',
        b'{"messages":{}}',
        b"[]",
        b"\xff",
        b'{"messages":[' + b"{}," * 200_000 + b"{}]}",
        b'{"model":"' + b"m" * 1_000_000 + b'","messages":[{"role":"user","content":[]}]}',
        b'{"messages":[{"role":"' + b"r" * 1_000_000 + b'"}]}',
        b'{"stop":"' + b"s" * 1_000_000 + b'","messages":[]}',
    ):
        response = demo.post(
            "/v1/chat/completions", data=body, headers={"content-type": "application/json"}
        )
        assert response.status_code == 400 and len(response.content) < 1000, body[:100]
        assert response.json()["error"]["message"]
    assert demo.post("/v1/chat/completions", json=chat).status_code == 200
    many = {"model": "demo-match", "input": ["a"] * 5000}
    response = demo.post("/v1/embeddings", json=many)
    assert response.status_code == 400 and response.json()["error"]["code"] == "TOO_MANY_QUESTIONS"
    wrong_type = demo.post("/v1/embeddings", data=b"{}", headers={"content-type": "text/plain"})
    assert wrong_type.status_code == 415 and wrong_type.json()["error"]["param"] == "content-type"
