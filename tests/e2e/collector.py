"""A collector of traces: takes OTLP over gRPC as the real ones do, and keeps every span."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

PATIENCE_S = 60
# Spans are sent after so many milliseconds, instead of seconds.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on a free port of loopback. One that `hangs` takes calls and never answers them until it is stopped."""

    def __init__(self, hangs=False):
        self.resources = []
        self.spans = []
        self.metadata = []
        self.news = threading.Condition()
        self.called = threading.Event()
        self.stopped = threading.Event()
        if not hangs:
            self.stopped.set()
        self.server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{self.port}"
        self.server.start()

    def Export(self, request, context):
        self.called.set()
        self.stopped.wait()
        with self.news:
            self.metadata += context.invocation_metadata()
            for of_resource in request.resource_spans:
                self.resources.append(of_resource.resource)
                for of_scope in of_resource.scope_spans:
                    self.spans += map(Span, of_scope.spans)
            self.news.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def until(self, condition):
        """Waits until `condition` holds for the spans, and gives them."""
        with self.news:
            arrived = self.news.wait_for(lambda: condition(self.spans), PATIENCE_S)
            assert arrived, f"it never held for {[span.name for span in self.spans]}"
            return list(self.spans)

    def stop(self):
        self.stopped.set()
        self.server.stop(None)


class Span:
    """A span with its ids as hexadecimal digits, as they are in headers and logs."""

    def __init__(self, span):
        self.name, self.kind, self.status = span.name, span.kind, span.status
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.state = span.trace_state
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.attributes = attributes(span)
        self.text = str(span)

    def __repr__(self):
        return f"{self.name} {self.id} below {self.parent} of {self.trace}"


def attributes(message):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in message.attributes}
