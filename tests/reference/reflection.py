"""A gRPC client that gets the message types from the server's reflection service, version 1.

It needs no generated code of the server. Reflection v1 and v1alpha have the same messages on the
wire, so that the v1alpha messages of `grpcio-reflection` work with the v1 service.
"""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2

SERVICE = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MAX_MESSAGE_BYTES = 64 << 20


class ReflectedService:
    """A service of a server: its message classes and its server-streaming methods."""

    def __init__(self, channel, name):
        self.channel, self.name = channel, name
        self._info = channel.stream_stream(
            SERVICE,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        self._pool = descriptor_pool.DescriptorPool()
        self._added = set()
        self._add_files(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        self._descriptor = self._pool.FindServiceByName(name)

    def _add_files(self, request):
        """Adds a file to the pool, after the files that it imports."""
        [response] = self._info(iter([request]))
        if response.HasField("error_response"):
            raise LookupError(response.error_response.error_message)
        files = [
            descriptor_pb2.FileDescriptorProto.FromString(raw)
            for raw in response.file_descriptor_response.file_descriptor_proto
        ]
        by_name = {file.name: file for file in files}

        def add(file):
            if file.name in self._added:
                return
            self._added.add(file.name)
            for dependency in file.dependency:
                if dependency in by_name:
                    add(by_name[dependency])
                elif dependency not in self._added:
                    self._add_files(reflection_pb2.ServerReflectionRequest(file_by_filename=dependency))
            self._pool.Add(file)

        for file in files:
            add(file)

    def message(self, method):
        """Returns the request class of a method."""
        return message_factory.GetMessageClass(self._descriptor.methods_by_name[method].input_type)

    def stream(self, method, channel=None):
        """Returns a callable for a method with one request and a stream of responses."""
        descriptor = self._descriptor.methods_by_name[method]
        response = message_factory.GetMessageClass(descriptor.output_type)
        return (channel or self.channel).unary_stream(
            f"/{self.name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )


def connect(address, module=grpc, more_options=()):
    """Returns a channel for large messages. `module` is `grpc` or `grpc.aio`."""
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        *more_options,
    ]
    return module.insecure_channel(address.removeprefix("http://"), options=options)
