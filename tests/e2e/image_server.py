"""A web server on loopback that serves an image and imitates broken and hostile servers."""

import gzip
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MIB = 1 << 20


class ImageServer:
    """A server on a free port of a loopback address, with TLS if there is a `certificate`.

    The method of a path sends its response. `client_left` is set when a client ends a request that
    never completes.
    """

    def __init__(self, image_bytes, host="127.0.0.1", certificate=None):
        self.paths = []
        self.headers = []
        self.client_left = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.paths.append(self.path)
                server.headers.append(self.headers)
                try:
                    name = self.path.partition("?")[0].strip("/")
                    getattr(server, name.replace("-", "_").replace("%", "_"))(self)
                except OSError:
                    server.client_left.set()

            def log_message(self, *_):
                pass

        self.image_bytes = image_bytes
        self.http = ThreadingHTTPServer((host, 0), Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self.http.socket = context.wrap_socket(
                self.http.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self.http.server_port
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def url(self, path):
        return f"{self.scheme}://127.0.0.1:{self.port}/{path}"

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    @staticmethod
    def send(request, status, body=b"", **headers):
        request.send_response(status)
        for name, value in {"content_length": len(body), **headers}.items():
            request.send_header(name.replace("_", "-"), str(value))
        request.end_headers()
        request.wfile.write(body)

    def image(self, request):
        self.send(request, 200, self.image_bytes, content_type="text/html")

    def text(self, request):
        self.send(request, 200, b"<html>not an image</html>", content_type="image/png")

    def empty(self, request):
        self.send(request, 200)

    def missing(self, request):
        self.send(request, 404, b"not found")

    def broken(self, request):
        self.send(request, 500)

    def zipped(self, request):
        self.send(request, 200, gzip.compress(self.image_bytes), content_encoding="gzip")

    def truncated(self, request):
        self.send(request, 200, self.image_bytes, content_length=len(self.image_bytes) + 1)
        request.close_connection = True

    def large_length(self, request):
        self.send(request, 200, content_length=21 * MIB)

    def endless(self, request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(MIB))

    def moved(self, request):
        self.send(request, 302, location="/image")

    def busy(self, request):
        self.send(request, 503)

    def no_coding(self, request):
        self.send(request, 200, self.image_bytes, content_encoding="UTF-8, Identity")

    def status_203(self, request):
        self.send(request, 203, self.image_bytes)

    def odd_headers(self, request):
        self.write(request, b"X Bad: 1\r\nX-Server : 1\r\nX-Long: a\r\n b\r\n: x\r\n")

    def many_headers(self, request):
        self.write(request, b"Set-Cookie: c=v\r\n" * 120)

    def raw_location(self, request):
        location = "Location: /caf\u00e9\r\n".encode()
        request.wfile.write(b"HTTP/1.0 302 Found\r\n" + location + b"Content-Length: 0\r\n\r\n")

    def caf_C3_A9(self, request):
        self.image(request)

    def write(self, request, headers):
        """Sends the image with these header lines."""
        head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n" % len(self.image_bytes)
        request.wfile.write(head + headers + b"\r\n" + self.image_bytes)

    def hang(self, request):
        """Sends nothing until the client disconnects."""
        request.connection.recv(1)
        self.client_left.set()

    def loop(self, request):
        self.send(request, 302, location="/loop")

    def to_loopback(self, request):
        self.send(request, 302, location=f"http://127.0.0.2:{self.port}/image")

    def to_file(self, request):
        self.send(request, 302, location="file:///etc/passwd")

    def idle(self, request):
        """Sends half of the image, then nothing until the client disconnects."""
        request.send_response(200)
        request.send_header("content-length", str(len(self.image_bytes)))
        request.end_headers()
        request.wfile.write(self.image_bytes[: len(self.image_bytes) // 2])
        request.wfile.flush()
        request.connection.recv(1)
        self.client_left.set()
