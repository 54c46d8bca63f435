"""A gRPC client that gets all types from the server's reflection service."""

from dataclasses import dataclass

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


@dataclass
class RequestError:
    """The error of a call or an item: the name of its gRPC code, and its error details."""

    code: str
    message: str
    reason: str
    domain: str
    metadata: dict
    field: str | None
    retry_delay_s: float | None


class Headers(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Adds headers to every call."""

    def __init__(self, headers):
        self.headers = list(headers)

    def send(self, proceed, details, request):
        return proceed(details._replace(metadata=[*(details.metadata or ()), *self.headers]), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = send


class Client:
    """A client with a separate connection.

    `credentials` enable TLS. `headers`, such as an API key, are sent with every call. `channel`
    replaces the channel.
    """

    def __init__(self, address, credentials=None, headers=(), channel=None):
        options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
        if channel:
            self.channel = channel
        elif credentials:
            self.channel = grpc.secure_channel(address, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(address, options=options)
        if headers:
            self.channel = grpc.intercept_channel(self.channel, Headers(headers))
        self.pool = DescriptorPool(ProtoReflectionDescriptorDatabase(self.channel))

    def close(self):
        self.channel.close()

    def type(self, name):
        """Returns the class of a message."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, service, name):
        """Returns a callable for a method."""
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        request, response = (
            message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type)
        )
        kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, True): "stream_stream"}
        make = getattr(self.channel, kinds[method.client_streaming, method.server_streaming])
        return make(
            f"/{service}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )

    def request(self, inputs):
        """Returns an AskRequest of (image, questions) pairs.

        An image is bytes, a URL as str, or None.
        """
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
        """Returns the stream of responses, a call that can be cancelled."""
        return self.method("blip.v1.BlipService", "Ask")(self.request(inputs), timeout=timeout)

    def outcomes(self, inputs):
        """Returns an Answer or a RequestError for each (image index, question index)."""
        outcomes = {}
        for response in self.ask(inputs):
            item = (response.image_index, response.question_index)
            assert item not in outcomes, f"{item} was answered twice"
            kind = response.WhichOneof("outcome")
            outcomes[item] = response.answer if kind == "answer" else self.request_error(response.error)
        return outcomes

    def failed_call(self, inputs, timeout=None):
        """Returns the error of a whole call."""
        error = self.error_of(lambda: list(self.ask(inputs, timeout)))
        assert error, "the call was answered"
        return error

    def error_of(self, call):
        """Returns the error that `call` ends with, or None if it succeeds."""
        try:
            call()
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
            if details is None:
                return RequestError(error.code().name, error.details(), "", "", {}, None, None)
            return self.request_error(self.type("google.rpc.Status").FromString(details))
        return None

    def request_error(self, status):
        """Returns the error in a `google.rpc.Status`."""
        details = {}
        for detail in status.details:
            name = detail.type_url.rpartition("/")[2]
            details[name] = self.type(name).FromString(detail.value)
        info = details.get("google.rpc.ErrorInfo") or self.type("google.rpc.ErrorInfo")()
        bad_request = details.get("google.rpc.BadRequest")
        retry = details.get("google.rpc.RetryInfo")
        return RequestError(
            code=next(code.name for code in grpc.StatusCode if code.value[0] == status.code),
            message=status.message,
            reason=info.reason,
            domain=info.domain,
            metadata=dict(info.metadata),
            field=bad_request.field_violations[0].field if bad_request else None,
            retry_delay_s=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        )

    def health(self, service=""):
        """Returns the name of the health status."""
        request = self.type("grpc.health.v1.HealthCheckRequest")(service=service)
        response = self.method("grpc.health.v1.Health", "Check")(request)
        return type(response).ServingStatus.Name(response.status)
