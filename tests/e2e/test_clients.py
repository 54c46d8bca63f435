"""Authentication of clients: API keys, TLS and client certificates, reloaded at run time."""

import signal
import subprocess

import grpc
import pytest
import trustme
from conftest import READY, ROOT, program

QUESTION = ["how many circles are there?"]


class Certificates:
    """A certificate authority and a certificate for this machine, as files."""

    def __init__(self, folder):
        self.authority = trustme.CA()
        self.folder = folder
        self.renew()

    def renew(self):
        """Writes a new certificate of a new authority to the same files."""
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost", "127.0.0.1")
        self.client = self.authority.issue_cert("someone@example.org")
        self.authority.cert_pem.write_to_path(self.folder / "ca.pem")
        self.server.private_key_pem.write_to_path(self.folder / "key.pem")
        (self.folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in self.server.cert_chain_pems))

    def options(self):
        """Returns the options of the server."""
        return (
            "--tls-cert-file",
            str(self.folder / "cert.pem"),
            "--tls-key-file",
            str(self.folder / "key.pem"),
        )

    def credentials(self, with_client=False):
        """Returns the credentials of a client."""
        identity = {}
        if with_client:
            identity = {
                "private_key": self.client.private_key_pem.bytes(),
                "certificate_chain": b"".join(pem.bytes() for pem in self.client.cert_chain_pems),
            }
        return grpc.ssl_channel_credentials(root_certificates=self.authority.cert_pem.bytes(), **identity)


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path)


def text_of(outcomes):
    return [answer.text for answer in outcomes.values()]


def code_of(client, demo_image):
    """Returns the name of the gRPC code that a call ends with."""
    try:
        list(client.ask([(demo_image, QUESTION)], timeout=20))
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def until(condition):
    """Waits until `condition` is true, because the server handles signals with a delay."""
    for _ in range(10_000):
        if condition():
            return
    raise AssertionError("condition never met")


def test_tls_answers_and_rejects_plain_text(start, demo, certificates, demo_image):
    server = start(*certificates.options(), connect=False)
    client = server.connect(credentials=certificates.credentials())
    expected = text_of(demo.client.outcomes([(demo_image, QUESTION)]))
    assert text_of(client.outcomes([(demo_image, QUESTION)])) == expected
    with grpc.insecure_channel(server.address) as plain, pytest.raises(grpc.RpcError) as raised:
        plain.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
    assert raised.value.code().name == "UNAVAILABLE"


def test_client_authority_admits_only_its_certificates(start, certificates, demo_image):
    ca = str(certificates.folder / "ca.pem")
    server = start(*certificates.options(), "--tls-client-ca-file", ca, connect=False)
    known = server.connect(credentials=certificates.credentials(with_client=True))
    assert code_of(known, demo_image) == "OK"
    with (
        grpc.secure_channel(server.address, certificates.credentials()) as unknown,
        pytest.raises(grpc.RpcError) as raised,
    ):
        unknown.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
    assert raised.value.code().name == "UNAVAILABLE"


def test_renewed_certificate_is_reloaded(start, certificates, demo_image):
    server = start(*certificates.options(), connect=False)
    before = server.connect(credentials=certificates.credentials())
    assert code_of(before, demo_image) == "OK"
    certificates.renew()
    server.process.send_signal(signal.SIGHUP)

    def is_trusted():
        with grpc.secure_channel(server.address, certificates.credentials()) as channel:
            try:
                channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
            except grpc.RpcError:
                return False
            return True

    until(is_trusted)
    # Existing connections stay open.
    assert code_of(before, demo_image) == "OK"


def test_api_keys_are_required_and_reloaded(start, tmp_path, demo_image):
    file = tmp_path / "keys.toml"
    file.write_text("[[keys]]\nname = 'a'\nkey = 'correct-horse'\n")
    server = start("--auth-keys-file", str(file), connect=False)
    client = server.connect(headers=[("authorization", "Bearer correct-horse")])
    assert code_of(client, demo_image) == "OK"
    ask = client.method("blip.v1.BlipService", "Ask")
    request = client.request([(demo_image, QUESTION)])

    def code_with(*headers):
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_stream(
                "/blip.v1.BlipService/Ask",
                request_serializer=type(request).SerializeToString,
                response_deserializer=client.type("blip.v1.AskResponse").FromString,
            )
            try:
                list(call(request, metadata=headers))
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

    assert len(list(ask(request))) == 1
    assert code_with() == "UNAUTHENTICATED"
    assert code_with(("x-api-key", "correct-house")) == "UNAUTHENTICATED"
    assert code_with(("x-api-key", "correct-horse")) == "OK"
    assert code_with(("x-api-key", "battery-staple")) == "UNAUTHENTICATED"
    file.write_text("[[keys]]\nname = 'b'\nkey = 'battery-staple'\n")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: code_with(("x-api-key", "battery-staple")) == "OK")
    assert code_with(("x-api-key", "correct-horse")) == "UNAUTHENTICATED"


def test_ask_command_uses_tls_key_and_certificate(start, certificates, tmp_path):
    ca = str(certificates.folder / "ca.pem")
    keys = ("--auth-keys", "correct-horse")
    server = start(*certificates.options(), "--tls-client-ca-file", ca, *keys, connect=False)
    certificates.client.private_key_pem.write_to_path(tmp_path / "client.key")
    certificates.client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    demo_image = str(ROOT / "models/demo/demo.png")
    identity = [
        "--ca-file",
        ca,
        "--cert-file",
        str(tmp_path / "client.pem"),
        "--key-file",
        str(tmp_path / "client.key"),
    ]

    def ask(*options):
        command = [
            program(),
            "ask",
            "--image",
            demo_image,
            "--question",
            *QUESTION,
            "--server",
            f"https://{server.address}",
        ]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=False)

    completed = ask(*identity, "--api-key", "correct-horse")
    assert completed.returncode == 0, completed.stderr
    completed = ask(*identity)
    assert completed.returncode == 1
    assert "missing api key" in completed.stderr
    assert ask("--ca-file", ca, "--api-key", "correct-horse").returncode == 1
    health = [program(), "health", "--server", f"https://{server.address}", *identity]
    assert subprocess.run(health, capture_output=True, text=True, check=True).stdout == "SERVING\n"


def test_public_address_requires_keys_or_insecure():
    command = [
        program(),
        "serve",
        "--device",
        "cpu",
        "--http-listen",
        "off",
        "--metrics-listen",
        "off",
        "--grpc-listen",
        "0.0.0.0:0",
    ]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 1
    assert completed.stderr.count("\n") == 1
    assert "--insecure" in completed.stderr
    with subprocess.Popen([*command, "--insecure"], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.kill()
    assert "ready: grpc http://0.0.0.0:" in line
    assert not READY.match(line)


def test_reflection_requires_key_and_can_be_disabled(start):
    def code(server, *headers):
        with grpc.insecure_channel(server.address) as channel:
            call = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
            try:
                # field 7: list_services
                list(call(iter([b"\x3a\x00"]), metadata=headers, timeout=20))
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

    guarded = start("--auth-keys", "correct-horse", connect=False)
    assert code(guarded) == "UNAUTHENTICATED"
    assert code(guarded, ("x-api-key", "correct-horse")) == "OK"
    assert code(start("--reflection=false", connect=False)) == "UNIMPLEMENTED"
