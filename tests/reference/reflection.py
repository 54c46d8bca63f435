"""Calls a gRPC server with nothing but what it says about itself: server reflection, version 1.

No generated code of the server's is needed. The messages of reflection v1 and v1alpha are the same
on the wire, so those that `grpcio-reflection` ships serve here under the name of v1.
"""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2

SERVICE = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MAX_MESSAGE_BYTES = 64 << 20


class ReflectedService:
    """One service of a server: its message classes and its server-streaming methods."""

    def __init__(self, channel, name):
        self.channel, self.name = channel, name
        self._info = channel.stream_stream(
            SERVICE,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        self._pool = descriptor_pool.DescriptorPool()
        self._known = set()
        self._learn(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        self._descriptor = self._pool.FindServiceByName(name)

    def _learn(self, request):
        """Adds the file asked for to the pool, what it imports first."""
        [response] = self._info(iter([request]))
        if response.HasField("error_response"):
            raise LookupError(response.error_response.error_message)
        files = [descriptor_pb2.FileDescriptorProto.FromString(raw)
                 for raw in response.file_descriptor_response.file_descriptor_proto]
        by_name = {file.name: file for file in files}

        def add(file):
            if file.name in self._known:
                return
            self._known.add(file.name)
            for needed in file.dependency:
                if needed in by_name:
                    add(by_name[needed])
                elif needed not in self._known:
                    self._learn(reflection_pb2.ServerReflectionRequest(file_by_filename=needed))
            self._pool.Add(file)

        for file in files:
            add(file)

    def message(self, method):
        """The class of a method's request."""
        return message_factory.GetMessageClass(self._descriptor.methods_by_name[method].input_type)

    def stream(self, method, channel=None):
        """A callable for a method that takes one message and answers with many."""
        descriptor = self._descriptor.methods_by_name[method]
        answer = message_factory.GetMessageClass(descriptor.output_type)
        return (channel or self.channel).unary_stream(
            f"/{self.name}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )


def connect(address, module=grpc, more_options=()):
    """A channel with room for large pictures; `module` is `grpc` or `grpc.aio`."""
    options = [("grpc.max_send_message_length", MAX_MESSAGE_BYTES), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
               *more_options]
    return module.insecure_channel(address.removeprefix("http://"), options=options)
