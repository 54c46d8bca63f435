"""The routes of containers on SageMaker and Vertex AI."""

import base64

import requests
from conftest import COUNT, MODELS, TEXTS, TIMEOUT_S

PREDICT = "/v1/endpoints/7/deployedModels/9:predict"
HEALTH = "/v1/endpoints/7/deployedModels/9"


def test_health_routes_need_no_key(demo, start):
    locked = start("--auth-keys", "correct-horse-battery")
    for server in (demo, locked):
        for path in ("/ping", "/health"):
            assert server.get(path).status_code == 200
    assert locked.post("/invocations", json={"instances": []}).status_code == 401


def test_invocations_accept_the_requests_of_every_api(demo, native, demo_image, data_url):
    [(answer, _)] = native.ask(COUNT)
    encoded = base64.b64encode(demo_image).decode()
    part = {"type": "image_url", "image_url": {"url": data_url}}
    content = [{"type": "text", "text": COUNT}, part]

    def invoke(**payload):
        response = demo.post("/invocations", json=payload)
        assert response.status_code == 200, response.text
        return response.json()

    instances = [{"image": {"b64": encoded}, "question": COUNT}]
    assert invoke(instances=instances)["predictions"][0]["answer"] == answer
    completion = invoke(messages=[{"role": "user", "content": content}])
    assert completion["choices"][0]["message"]["content"] == answer
    inputs = {"texts": [[COUNT]], "images": native.images}
    assert invoke(inputs=inputs) == {"captions": [{"image_results": [answer]}]}
    assert invoke(inputs={"image": encoded, "question": COUNT})[0]["answer"] == answer
    [expected] = native.embed(TEXTS[0])["texts"]
    assert len(invoke(input=TEXTS[0])["data"][0]["embedding"]) == len(expected)
    captioned = demo.post("/invocations", data=demo_image, headers={"content-type": "image/png"})
    assert captioned.json() == [{"generated_text": native.caption()[0]}]


def test_invocations_obey_the_options_of_the_model_card(demo, native):
    inputs = {"texts": [[COUNT]], "images": native.images}
    events = demo.post("/invocations", json={"inputs": inputs, "stream": True, "priority": "low"})
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.startswith("event: answer\n") and "event: end\n" in events.text
    refused = demo.post("/invocations", json={"inputs": inputs, "timeout_ms": 0})
    assert refused.status_code == 400 and "timeout_ms" in refused.text


def test_errors_have_the_shape_of_their_api(demo):
    invalid = demo.post("/invocations", json={"messages": []})
    assert (invalid.status_code, invalid.json()["error"]["param"]) == (400, "messages")
    for payload in ({"instances": []}, {"inputs": [5]}, []):
        response = demo.post("/invocations", json=payload)
        assert response.status_code == 400 and isinstance(response.json()["error"], str)


def test_variables_of_vertex_ai_set_port_and_routes(start, data_url):
    environment = {
        "AIP_HTTP_PORT": "0",
        "AIP_HEALTH_ROUTE": HEALTH,
        "AIP_PREDICT_ROUTE": PREDICT,
        "AIP_MODE": "PREDICTION",
        "BLIP_SERVE__AUTH__INSECURE": "true",
    }
    server = start("--model", MODELS, environment=environment)
    assert server.http.startswith("http://0.0.0.0:")
    assert server.get(HEALTH).status_code == 200
    instances = [{"image": data_url, "question": COUNT}]
    response = server.post(PREDICT, json={"instances": instances})
    assert response.json()["predictions"][0]["answer"] == "5", response.text
    # The metrics have the route and not the path that Vertex AI chose.
    metrics = requests.get(f"{server.metrics}/metrics", timeout=TIMEOUT_S).text
    assert 'method="/invocations"' in metrics and "deployedModels" not in metrics
