"""Who may call: keys, TLS, client certificates, each changed while the server runs."""

import signal
import subprocess

import grpc
import pytest
import trustme
from conftest import READY, ROOT, program

QUESTION = ["how many circles are there?"]


class Certificates:
    """An authority with a certificate for this machine, as files."""

    def __init__(self, folder):
        self.authority = trustme.CA()
        self.folder = folder
        self.renew()

    def renew(self):
        """A new certificate by a new authority, in the same files."""
        self.authority = trustme.CA()
        self.server = self.authority.issue_cert("localhost", "127.0.0.1")
        self.client = self.authority.issue_cert("someone@example.org")
        self.authority.cert_pem.write_to_path(self.folder / "ca.pem")
        self.server.private_key_pem.write_to_path(self.folder / "key.pem")
        (self.folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in self.server.cert_chain_pems))

    def options(self):
        return "--tls-cert-file", str(self.folder / "cert.pem"), "--tls-key-file", str(self.folder / "key.pem")

    def credentials(self, with_client=False):
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


def code_of(client, picture):
    """How a call ends: the name of a gRPC code."""
    try:
        list(client.ask([(picture, QUESTION)], timeout=20))
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def until(condition):
    """A signal is taken at some moment after it was sent: asks until it shows."""
    for _ in range(10_000):
        if condition():
            return
    raise AssertionError("it never came")


def test_by_tls_answers_are_the_same_and_plain_text_is_turned_away(start, demo, certificates, picture):
    server = start(*certificates.options(), connect=False)
    client = server.connect(credentials=certificates.credentials())
    expected = text_of(demo.client.outcomes([(picture, QUESTION)]))
    assert text_of(client.outcomes([(picture, QUESTION)])) == expected
    with grpc.insecure_channel(server.address) as plain, pytest.raises(grpc.RpcError) as refused:
        plain.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
    assert refused.value.code().name == "UNAVAILABLE"


def test_with_a_client_authority_only_its_certificates_are_let_in(start, certificates, picture):
    ca = str(certificates.folder / "ca.pem")
    server = start(*certificates.options(), "--tls-client-ca-file", ca, connect=False)
    known = server.connect(credentials=certificates.credentials(with_client=True))
    assert code_of(known, picture) == "OK"
    with grpc.secure_channel(server.address, certificates.credentials()) as unknown, pytest.raises(grpc.RpcError) as refused:
        unknown.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
    assert refused.value.code().name == "UNAVAILABLE"


def test_a_renewed_certificate_is_used_without_a_restart(start, certificates, picture):
    server = start(*certificates.options(), connect=False)
    before = server.connect(credentials=certificates.credentials())
    assert code_of(before, picture) == "OK"
    certificates.renew()
    server.process.send_signal(signal.SIGHUP)

    def trusted():
        with grpc.secure_channel(server.address, certificates.credentials()) as channel:
            try:
                channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20)
            except grpc.RpcError:
                return False
            return True

    until(trusted)
    # Connections that are there stay.
    assert code_of(before, picture) == "OK"


def test_keys_are_needed_known_and_changed_without_a_restart(start, tmp_path, picture):
    file = tmp_path / "keys.toml"
    file.write_text("[[keys]]\nname = 'a'\nkey = 'correct-horse'\n")
    server = start("--auth-keys-file", str(file), connect=False)
    client = server.connect(headers=[("authorization", "Bearer correct-horse")])
    assert code_of(client, picture) == "OK"
    ask = client.method("blip.v1.BlipService", "Ask")
    request = client.request([(picture, QUESTION)])

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


def test_ask_speaks_tls_with_a_key_and_a_certificate(start, certificates, tmp_path):
    ca = str(certificates.folder / "ca.pem")
    keys = ("--auth-keys", "correct-horse")
    server = start(*certificates.options(), "--tls-client-ca-file", ca, *keys, connect=False)
    certificates.client.private_key_pem.write_to_path(tmp_path / "client.key")
    certificates.client.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
    picture = str(ROOT / "models/demo/demo.png")
    identity = ["--ca-file", ca, "--cert-file", str(tmp_path / "client.pem"), "--key-file", str(tmp_path / "client.key")]

    def ask(*options):
        command = [program(), "ask", "--image", picture, "--question", *QUESTION, "--server", f"https://{server.address}"]
        return subprocess.run([*command, *options], capture_output=True, text=True, check=False)

    done = ask(*identity, "--api-key", "correct-horse")
    assert done.returncode == 0, done.stderr
    done = ask(*identity)
    assert done.returncode == 1
    assert "needs an api key" in done.stderr
    assert ask("--ca-file", ca, "--api-key", "correct-horse").returncode == 1
    health = [program(), "health", "--server", f"https://{server.address}", *identity]
    assert subprocess.run(health, capture_output=True, text=True, check=True).stdout == "SERVING\n"


def test_a_public_address_needs_keys_or_a_word_that_none_are_wanted():
    command = [program(), "serve", "--device", "cpu", "--http-listen", "off", "--metrics-listen", "off",
               "--grpc-listen", "0.0.0.0:0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--insecure" in done.stderr
    with subprocess.Popen([*command, "--insecure"], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.kill()
    assert "ready: grpc http://0.0.0.0:" in line
    assert not READY.match(line)


def test_reflection_needs_a_key_where_there_are_any_and_can_be_switched_off(start):
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
    assert code(start("--reflection-off", connect=False)) == "UNIMPLEMENTED"
