"""A gRPC client that knows nothing of the server but its address: all types come from server reflection."""

from dataclasses import dataclass

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


@dataclass
class Refusal:
    """An error as it travels: a gRPC code by name, and the details that came with it."""

    code: str
    message: str
    reason: str
    domain: str
    metadata: dict
    field: str | None
    retry_delay_s: float | None


class Headers(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Sends headers with every call."""

    def __init__(self, headers):
        self.headers = list(headers)

    def send(self, proceed, details, request):
        return proceed(details._replace(metadata=[*(details.metadata or ()), *self.headers]), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = send


class Client:
    """By TLS with `credentials`, and with `headers`, such as a key, on every call."""

    def __init__(self, address, credentials=None, headers=()):
        # A connection of its own for each client: the server is fair between connections.
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        if credentials:
            self.channel = grpc.secure_channel(address, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(address, options=options)
        if headers:
            self.channel = grpc.intercept_channel(self.channel, Headers(headers))
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def close(self):
        self.channel.close()

    def type(self, name):
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, service, name):
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        request, response = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}
        make = getattr(self.channel, kinds[method.client_streaming, method.server_streaming])
        return make(
            f"/{service}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def request(self, inputs):
        """An AskRequest of (image, questions) pairs; an image is bytes, a URL as str, or None."""
        request = self.type("blip.v1.AskRequest")()
        for image, questions in inputs:
            entry = request.inputs.add()
            if isinstance(image, bytes):
                entry.image.data = image
            elif isinstance(image, str):
                entry.image.url = image
            for text in questions:
                entry.questions.add().text = text
        return request

    def ask(self, inputs, timeout=None):
        """The stream of responses, a call that can be cancelled."""
        return self.method("blip.v1.BlipService", "Ask")(self.request(inputs), timeout=timeout)

    def outcomes(self, inputs):
        """All outcomes by (image index, question index): an Answer or a Refusal."""
        outcomes = {}
        for response in self.ask(inputs):
            pair = (response.image_index, response.question_index)
            assert pair not in outcomes, f"{pair} was answered twice"
            kind = response.WhichOneof("outcome")
            outcomes[pair] = response.answer if kind == "answer" else self.refusal(response.error)
        return outcomes

    def refused_call(self, inputs, timeout=None):
        """The Refusal that the whole call ends with."""
        refusal = self.refused(lambda: list(self.ask(inputs, timeout)))
        assert refusal, "the call was answered"
        return refusal

    def refused(self, call):
        """The Refusal that `call` ends with, or None if it ends well."""
        try:
            call()
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
            if details is None:
                return Refusal(error.code().name, error.details(), "", "", {}, None, None)
            return self.refusal(self.type("google.rpc.Status").FromString(details))
        return None

    def refusal(self, status):
        details = {}
        for detail in status.details:
            name = detail.type_url.rpartition("/")[2]
            details[name] = self.type(name).FromString(detail.value)
        info = details.get("google.rpc.ErrorInfo") or self.type("google.rpc.ErrorInfo")()
        bad_request = details.get("google.rpc.BadRequest")
        retry = details.get("google.rpc.RetryInfo")
        return Refusal(
            code=next(code.name for code in grpc.StatusCode if code.value[0] == status.code),
            message=status.message,
            reason=info.reason,
            domain=info.domain,
            metadata=dict(info.metadata),
            field=bad_request.field_violations[0].field if bad_request else None,
            retry_delay_s=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        )

    def health(self, service=""):
        request = self.type("grpc.health.v1.HealthCheckRequest")(service=service)
        response = self.method("grpc.health.v1.Health", "Check")(request)
        return type(response).ServingStatus.Name(response.status)
