"""The Open Inference Protocol and KServe's earlier one, with tritonclient and kserve."""

import base64
import json
import struct
import subprocess
import sys
from pathlib import Path

import grpc
import numpy
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from conftest import COUNT, KEY, SQUARE, TEXTS, TIMEOUT_S
from tritonclient.utils import InferenceServerException

CLIENTS = {"http": triton_http, "grpc": triton_grpc}
QUESTIONS = [COUNT, SQUARE]
KSERVE = Path(__file__).with_name("kserve_clients.py")


def connect(server, protocol):
    address = server.grpc if protocol == "grpc" else server.http.removeprefix("http://")
    return CLIENTS[protocol].InferenceServerClient(address)


@pytest.fixture(scope="session", params=CLIENTS)
def triton(request, demo):
    """A client of tritonclient, and its module."""
    client = connect(demo, request.param)
    yield client, CLIENTS[request.param]
    client.close()


def tensor(module, name, values, shape=None, **options):
    """Returns an input of texts or files."""
    array = numpy.array(values, dtype=object).reshape(shape or [len(values)])
    input_ = module.InferInput(name, list(array.shape), "BYTES")
    input_.set_data_from_numpy(array, **options)
    return input_


def texts(array):
    return [element.decode() for element in array.reshape(-1)]


def test_answers_equal_those_of_ask(triton, native, demo_image):
    client, module = triton
    expected = native.ask(*QUESTIONS)
    inputs = [tensor(module, "image", [demo_image]), tensor(module, "question", QUESTIONS)]
    result = client.infer("demo", inputs, request_id="r-7")
    assert texts(result.as_numpy("answer")) == [answer for answer, _ in expected]
    scores = [details["score"] for _, details in expected]
    assert result.as_numpy("score").tolist() == pytest.approx(scores, abs=1e-4)
    response = result.get_response() if module is triton_http else None
    assert (response or {"id": result.get_response().id})["id"] == "r-7"


def test_pairs_and_shared_elements_are_answered(triton, native, demo_image):
    client, module = triton
    answers = [answer for answer, _ in native.ask(*QUESTIONS)]
    images = tensor(module, "image", [demo_image, demo_image], shape=[2, 1])
    for questions, expected in ((QUESTIONS, answers), (QUESTIONS[:1], [answers[0]] * 2)):
        result = client.infer("demo", [images, tensor(module, "question", questions)])
        assert texts(result.as_numpy("answer")) == expected


def test_image_can_be_a_url_of_its_bytes(triton, data_url):
    client, module = triton
    inputs = [tensor(module, "image", [data_url]), tensor(module, "question", [COUNT])]
    assert texts(client.infer("demo", inputs).as_numpy("answer")) == ["5"]


def test_captions_matches_and_embeddings_equal_the_native_ones(triton, native, demo_image):
    client, module = triton
    image = tensor(module, "image", [demo_image])
    assert texts(client.infer("demo-caption", [image]).as_numpy("caption")) == native.caption()
    prompts = ["a picture of", "there is"]
    result = client.infer("demo-caption", [image, tensor(module, "prompt", prompts)])
    assert texts(result.as_numpy("caption")) == native.caption(*prompts)
    result = client.infer("demo-match", [image, tensor(module, "text", TEXTS)])
    expected = native.match(*TEXTS)
    for name in ("probability", "cosine"):
        values = [scores[name] for scores in expected]
        assert result.as_numpy(name).tolist() == pytest.approx(values, abs=1e-4)
    embeddings = native.embed(*TEXTS)
    for inputs, values in (([image], embeddings["images"]), ([tensor(module, "text", TEXTS)], embeddings["texts"])):
        found = client.infer("demo-match", inputs).as_numpy("embedding")
        assert found.shape == (len(values), len(values[0]))
        assert found.reshape(-1).tolist() == pytest.approx(sum(values, []), abs=1e-5)


def test_outputs_are_chosen_and_ordered_by_the_request(triton, demo_image):
    client, module = triton
    inputs = [tensor(module, "image", [demo_image]), tensor(module, "question", [COUNT])]
    outputs = [module.InferRequestedOutput("score"), module.InferRequestedOutput("answer")]
    result = client.infer("demo", inputs, outputs=outputs)
    assert texts(result.as_numpy("answer")) == ["5"] and result.as_numpy("score").shape == (1,)
    result = client.infer("demo", inputs, outputs=outputs[:1])
    assert result.as_numpy("answer") is None
    with pytest.raises(InferenceServerException, match="answers"):
        client.infer("demo", inputs, outputs=[module.InferRequestedOutput("answers")])


def test_parameters_are_generation_options(triton, native, demo_image):
    client, module = triton
    [(_, details)] = native.ask(COUNT, generation={"num_beams": 3})
    inputs = [tensor(module, "image", [demo_image]), tensor(module, "question", [COUNT])]
    result = client.infer("demo", inputs, parameters={"num_beams": 3})
    assert result.as_numpy("score")[0] == pytest.approx(details["score"], abs=1e-4)
    with pytest.raises(InferenceServerException, match="parameters.num_beams out of range"):
        client.infer("demo", inputs, parameters={"num_beams": 99})
    with pytest.raises(InferenceServerException, match="unknown field `beams`"):
        client.infer("demo", inputs, parameters={"beams": 3})


def test_json_tensors_of_the_http_client_are_answered(demo, native, demo_image):
    client = connect(demo, "http")
    encoded = base64.b64encode(demo_image).decode()
    inputs = [
        tensor(triton_http, "image", [encoded], binary_data=False),
        tensor(triton_http, "question", QUESTIONS, binary_data=False),
    ]
    outputs = [
        triton_http.InferRequestedOutput("answer", binary_data=False),
        triton_http.InferRequestedOutput("score", binary_data=True),
    ]
    result = client.infer("demo", inputs, outputs=outputs)
    assert texts(result.as_numpy("answer").astype("S")) == [answer for answer, _ in native.ask(*QUESTIONS)]
    assert result.as_numpy("score").shape == (2,)
    client.close()


def test_health_and_metadata_are_reported(triton, demo):
    client, module = triton
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("demo") and client.is_model_ready("demo", "1")
    as_dict = {"as_json": True} if module is triton_grpc else {}
    server = client.get_server_metadata(**as_dict)
    assert server["name"] == "blip-serve" and server["extensions"] == ["binary_tensor_data"]
    model = client.get_model_metadata("demo-match", **as_dict)
    assert (model["name"], model["versions"]) == ("demo-match", ["1"])
    assert [(each["name"], each["datatype"]) for each in model["inputs"]] == [("image", "BYTES"), ("text", "BYTES")]
    [embedding] = [each for each in model["outputs"] if each["name"] == "embedding"]
    size = demo.get("/v1/models/demo-match").json()["embedding_size"]
    assert [int(length) for length in embedding["shape"]] == [-1, size]
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.get_model_metadata("nope")
    with pytest.raises(InferenceServerException, match='unknown model "2" in version'):
        client.get_model_metadata("demo", "2")


def test_repository_index_lists_the_models(demo):
    client = connect(demo, "http")
    index = client.get_model_repository_index()
    assert [(model["name"], model["state"]) for model in index] == [
        ("demo", "READY"),
        ("demo-caption", "READY"),
        ("demo-match", "READY"),
    ]
    client.close()


def test_errors_name_the_tensor(triton, demo_image):
    client, module = triton
    image, question = tensor(module, "image", [demo_image]), tensor(module, "question", [COUNT])
    numbers = module.InferInput("question", [1], "FP32")
    numbers.set_data_from_numpy(numpy.array([0.5], dtype=numpy.float32))
    for inputs, expected in (
        ([image], "inputs.question is invalid: it is missing"),
        ([image, numbers], "inputs.question is invalid: datatype FP32, expected BYTES"),
        ([image, tensor(module, "mask", ["a"])], "inputs.mask is invalid: expected image or question"),
        ([image, tensor(module, "question", [COUNT, " "])], r"inputs.question\[1\] has no text"),
        ([tensor(module, "image", [b"no image"]), question], "cannot decode inputs.image"),
        ([tensor(module, "image", [demo_image] * 3), tensor(module, "question", QUESTIONS)], "2 elements for 3 images"),
        ([image, tensor(module, "question", ["a"] * 5000)], "too many questions in inputs.question"),
    ):
        with pytest.raises(InferenceServerException, match=expected):
            client.infer("demo", inputs)
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.infer("nope", [image, question])


@pytest.mark.parametrize("protocol", CLIENTS)
def test_key_is_required_except_for_probes(start, demo_image, protocol):
    server = start("--auth-keys", KEY)
    client, module = connect(server, protocol), CLIENTS[protocol]
    inputs = [tensor(module, "image", [demo_image]), tensor(module, "question", [COUNT])]
    headers = {"authorization": f"Bearer {KEY}"}
    assert texts(client.infer("demo", inputs, headers=headers).as_numpy("answer")) == ["5"]
    for wrong in ({}, {"authorization": "Bearer wrong"}):
        with pytest.raises(InferenceServerException, match="api key"):
            client.infer("demo", inputs, headers=wrong)
    if protocol == "http":
        assert client.is_server_live() and client.is_server_ready()
        assert not client.is_model_ready("demo")
    client.close()


def infer(server, body, json_length=None):
    headers = {"content-type": "application/octet-stream"}
    if json_length is not None:
        headers["inference-header-content-length"] = str(json_length)
    return server.post("/v2/models/demo/infer", data=body, headers=headers)


def test_lengths_that_lie_are_rejected(demo):
    def request(size, raw, shape=1):
        head = (
            f'{{"inputs":[{{"name":"image","shape":[{shape}],"datatype":"BYTES",'
            f'"parameters":{{"binary_data_size":{size}}}}}]}}'
        ).encode()
        return infer(demo, head + raw, len(head))

    element = struct.pack("<I", 0xFFFF_FFFF) + b"x"
    for response, expected in (
        (request(5, element), "element 0 has 4294967295 bytes, 1 bytes follow its length"),
        (request(2**40, b"abcd"), "the body has 4 bytes left"),
        (request(-1, b"abcd"), "binary_data_size -1"),
        (request(4, b"abcdef"), "2 bytes after the last tensor"),
        (request(4, b"\0\0\0\0", shape=2**62), "at most 65536 elements allowed"),
        (request(4, b"\0\0\0\0", shape=60_000), "4 bytes have only 1 of 60000 elements"),
        (infer(demo, b"{}", 10**30), "expected a number"),
        (infer(demo, b"{}", 3), "3 bytes, the body has 2"),
        (infer(demo, b'{"inputs":' + b"[" * 100_000), "is invalid"),
        (infer(demo, b'{"inputs":[],"id":"' + b"x" * 1_000_000 + b'"}'), "id too long"),
    ):
        assert response.status_code == 400 and len(response.content) < 1000, response.text
        assert expected in response.json()["error"], response.text


def test_lying_contents_over_grpc_are_rejected(demo):
    service = triton_grpc.service_pb2
    with grpc.insecure_channel(demo.grpc) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=service.ModelInferRequest.SerializeToString,
            response_deserializer=service.ModelInferResponse.FromString,
        )

        def request(raw=(), **contents):
            request = service.ModelInferRequest(model_name="demo", raw_input_contents=list(raw))
            request.inputs.add(name="image", datatype="BYTES", shape=[1])
            for name, values in contents.items():
                getattr(request.inputs[0].contents, name).extend(values)
            return request

        for message, expected in (
            (request([struct.pack("<I", 2**32 - 1)]), "element 0 has 4294967295 bytes"),
            (request([b"", b""]), "2 buffers for 1 tensors"),
            (request([b"\0\0\0\0"], bytes_contents=[b""]), "both contents and raw_input_contents are set"),
            (request(), "0 elements, its shape has 1"),
            (request(bytes_contents=[b""] * 70_000), "too many questions in inputs"),
            (request(int64_contents=[1] * 70_000), "too many questions in inputs"),
        ):
            with pytest.raises(grpc.RpcError, match=expected) as error:
                infer(message)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_kserve_clients_get_the_same_answers(demo, native, demo_image, tmp_path):
    file = tmp_path / "image.png"
    file.write_bytes(demo_image)
    # The clients of kserve and of tritonclient define the same messages, so that one process cannot
    # import both.
    command = [sys.executable, str(KSERVE), demo.http, demo.grpc, str(file), *QUESTIONS]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    answers = [answer for answer, _ in native.ask(*QUESTIONS)]
    ready = [True] * 3
    assert json.loads(completed.stdout) == {
        "v1": {"answers": answers, "ready": [True], "error": "unknown model"},
        "v2": {"answers": answers, "ready": ready, "error": "unknown model"},
        "grpc": {"answers": answers, "ready": ready, "error": "unknown model"},
    }


def test_other_routes_state_what_is_supported(demo):
    with connect(demo, "http") as client:
        for call in (client.get_model_config, client.get_inference_statistics, client.load_model):
            with pytest.raises(InferenceServerException) as error:
                call("demo")
            message = error.value.message()
            assert message.startswith("unsupported route /v2/") and "POST /v2/models/NAME/infer" in message
    refused = demo.get("/v2/models/demo/infer")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert refused.json() == {"error": "method not allowed: GET"}


def predict(server, model, instances, **fields):
    return server.post(f"/v1/models/{model}:predict", json={"instances": instances, **fields})


def test_predictions_of_each_task_equal_the_native_ones(demo, native, demo_image, data_url):
    image = {"b64": base64.b64encode(demo_image).decode()}
    [(answer, details)] = native.ask(COUNT, generation={"num_answers": 2})
    question = {"image": image, "question": COUNT}
    [found] = predict(demo, "demo", [question], parameters={"num_answers": 2}).json()["predictions"]
    assert found["answer"] == answer and found["score"] == pytest.approx(details["score"], abs=1e-4)
    assert found["alternatives"][0]["text"] == details["alternatives"][0]["text"]
    candidates = {"image": image, "question": SQUARE, "candidates": ["no", "yes"]}
    [found] = predict(demo, "demo", [candidates]).json()["predictions"]
    assert found["answer"] == "yes" and 0.5 < found["probability"] <= 1
    [found] = predict(demo, "demo-caption", [{"image": {"url": data_url}}]).json()["predictions"]
    assert found["caption"] == native.caption()[0]
    found = predict(demo, "demo-match", [{"image": image, "text": text} for text in TEXTS])
    probabilities = [each["probability"] for each in found.json()["predictions"]]
    assert probabilities == pytest.approx([each["probability"] for each in native.match(*TEXTS)], abs=1e-4)
    [of_image, of_text] = predict(demo, "demo-match", [{"image": image}, {"text": TEXTS[0]}]).json()["predictions"]
    embeddings = native.embed(TEXTS[0])
    assert of_image["embedding"] == pytest.approx(embeddings["images"][0], abs=1e-5)
    assert of_text["embedding"] == pytest.approx(embeddings["texts"][0], abs=1e-5)


def test_failed_instance_fails_alone(demo, data_url):
    good, bad = {"image": data_url, "question": COUNT}, {"image": "a*", "question": COUNT}
    response = predict(demo, "demo", [good, bad, {"question": COUNT}])
    assert response.status_code == 200
    first, second, third = response.json()["predictions"]
    assert first["answer"] == "5"
    assert second["error"].startswith("cannot decode instances[1].image: invalid base64")
    assert third["error"] == "instances[2].image has no source"
    failed = predict(demo, "demo", [bad])
    assert failed.status_code == 422 and "instances[0].image" in failed.json()["error"]


def test_invalid_predictions_are_rejected(demo, data_url):
    for response, status, expected in (
        (predict(demo, "nope", []), 404, "unknown model"),
        (predict(demo, "demo", []), 400, "instances is empty"),
        (predict(demo, "demo", [{"image": data_url, "text": "a"}]), 400, "instances[0].text is invalid"),
        (predict(demo, "demo", [{"image": data_url, "questions": "a"}]), 400, "unknown field `questions`"),
        (predict(demo, "demo", [{}] * 60_000), 400, "too many images in instances"),
        (predict(demo, "demo", 5), 400, "instances is invalid"),
        (
            predict(demo, "demo", [{"image": data_url, "question": "a"}], parameters={"num_answers": 99}),
            400,
            "parameters.num_answers out of range",
        ),
    ):
        assert response.status_code == status and expected in response.json()["error"], response.text
    explain = demo.post("/v1/models/demo:explain", json={})
    assert explain.status_code == 404 and "expected one of POST /v1/models/NAME:predict" in explain.json()["error"]
    other = demo.post("/v1/models/demo", json={})
    assert (other.status_code, other.headers["allow"]) == (405, "GET,HEAD,DELETE")
    assert other.json()["reason"] == "METHOD_REFUSED"
