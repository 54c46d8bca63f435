"""TLS and client certificates."""

import asyncio
import re

import pytest
import trustme
from blip_serve_client import AsyncClient, Client, ConnectionFailedError, RetryPolicy
from servers import DEMO_IMAGE

QUESTION = "is there a square?"
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def files(tmp_path):
    """The certificates of an authority, a server and a client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name, certificate in (
        ("server", authority.issue_cert("localhost", "127.0.0.1")),
        ("client", authority.issue_cert("client@example.org")),
    ):
        certificate.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for part in certificate.cert_chain_pems:
            part.write_to_path(tmp_path / f"{name}.pem", append=True)
    return tmp_path


def identity(files):
    return {"cert_file": files / "client.pem", "key_file": files / "client.key"}


def test_certificates_of_both_sides_are_checked(servers, files):
    certificates = ("--tls-cert-file", files / "server.pem", "--tls-key-file", files / "server.key")
    (server,) = servers(1, *certificates, "--tls-client-ca-file", files / "ca.pem")
    server.start()
    url = f"https://{server.address}"
    with Client(url, ca_file=files / "ca.pem", **identity(files)) as client:
        assert client.ask(DEMO_IMAGE, QUESTION).text == "yes"
    rejected = {
        # The server may close the connection before or after it answers the first bytes.
        r"Use TLS|with TLS if the server requires it": {"tls": False, "server": server.address},
        "Set ca_file": {**identity(files)},
        "client certificate": {"ca_file": files / "ca.pem"},
    }
    for remedy, options in rejected.items():
        with Client(**{"server": url, "retry": ONCE, **options}) as client:
            with pytest.raises(ConnectionFailedError) as error:
                client.ask(DEMO_IMAGE, QUESTION)
        assert re.search(remedy, str(error.value))

    async def ask():
        async with AsyncClient(server.address, ca_file=files / "ca.pem", **identity(files)) as client:
            return await client.ask(DEMO_IMAGE, QUESTION)

    assert asyncio.run(ask()).text == "yes"


def test_server_without_tls_is_an_error_with_a_remedy(demo):
    with Client(demo.address, tls=True, retry=ONCE) as client, pytest.raises(ConnectionFailedError) as error:
        client.models()
    assert str(error.value).endswith("Connect without TLS, which the server does not use.")
