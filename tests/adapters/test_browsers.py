"""Clients in pages of a browser, which asks for the headers that they send."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import requests
from conftest import TIMEOUT_S

SCRIPT = Path(__file__).with_name("node") / "request_headers.mjs"
PAGE = "https://page.example.org"


@pytest.fixture(scope="session")
def sent():
    """The names of the headers that the clients for JavaScript send."""
    environment = {**os.environ, "NODE_PATH": os.environ["BLIP_NODE_MODULES"]}
    completed = subprocess.run(
        ["node", str(SCRIPT)], capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=True
    )
    names = json.loads(completed.stdout)
    assert {"authorization", "x-stainless-lang", "x-hf-bill-to"} <= set(names)
    return names


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/models/demo", "/v2/models/demo/infer"])
def test_page_may_send_the_headers_of_its_client(start, sent, path):
    server = start("--http-cors-origins", PAGE)
    headers = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": ",".join(sent),
    }
    response = requests.options(f"{server.http}{path}", headers=headers, timeout=TIMEOUT_S)
    assert response.headers["access-control-allow-origin"] == PAGE
    allowed = response.headers["access-control-allow-headers"].split(",")
    assert set(sent) | {"inference-header-content-length"} <= set(allowed)
    # The browser of another page refuses.
    headers["origin"] = "https://other.example.org"
    response = requests.options(f"{server.http}{path}", headers=headers, timeout=TIMEOUT_S)
    assert "access-control-allow-origin" not in response.headers
