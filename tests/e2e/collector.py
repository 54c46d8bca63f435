"""Trace collectors that receive OTLP over gRPC or HTTP and store every span."""

import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

TIMEOUT_S = 60
# The server exports spans after milliseconds instead of seconds.
FAST_EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


class Collector:
    """A collector on a free loopback port. With `hangs`, it answers no call until it is stopped."""

    def __init__(self, hangs=False):
        self.resources = []
        self.spans = []
        self.metadata = []
        self.changed = threading.Condition()
        self.called = threading.Event()
        self.stopped = threading.Event()
        if not hangs:
            self.stopped.set()
        self.url = f"http://127.0.0.1:{self.listen()}"

    def store(self, request, metadata):
        """Stores the spans of a request. Returns the response."""
        self.called.set()
        self.stopped.wait()
        with self.changed:
            self.metadata += metadata
            for of_resource in request.resource_spans:
                self.resources.append(of_resource.resource)
                for of_scope in of_resource.scope_spans:
                    self.spans += map(Span, of_scope.spans)
            self.changed.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def until(self, condition):
        """Waits until `condition` is true for the spans. Returns them."""
        with self.changed:
            arrived = self.changed.wait_for(lambda: condition(self.spans), TIMEOUT_S)
            assert arrived, f"condition not met by {[span.name for span in self.spans]}"
            return list(self.spans)

    def stop(self):
        self.stopped.set()
        self.close()


class GrpcCollector(Collector, trace_service_pb2_grpc.TraceServiceServicer):
    """A collector of OTLP over gRPC."""

    protocol = "grpc"

    def listen(self):
        self.server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        return port

    def Export(self, request, context):
        return self.store(request, context.invocation_metadata())

    def close(self):
        self.server.stop(None)


class HttpCollector(Collector):
    """A collector of OTLP over HTTP."""

    protocol = "http/protobuf"

    def listen(self):
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                is_known = (
                    self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                )
                response = b""
                if is_known:
                    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
                    response = collector.store(request, self.headers.items()).SerializeToString()
                self.send_response(200 if is_known else 404)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(response)))
                self.end_headers()
                self.wfile.write(response)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """Ignores clients that disconnect."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.serving = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.serving.start()
        return self.server.server_port

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.serving.join()


class Span:
    """A span with its ids in hexadecimal, as in headers and logs."""

    def __init__(self, span):
        self.name, self.kind, self.status = span.name, span.kind, span.status
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.state = span.trace_state
        self.links = [(link.trace_id.hex(), link.span_id.hex()) for link in span.links]
        self.attributes = attributes(span)
        self.text = str(span)

    def __repr__(self):
        return f"{self.name} {self.id}, parent {self.parent}, trace {self.trace}"


def attributes(message):
    """Returns the attributes of a span or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in message.attributes}
