"""A web server on loopback that serves a picture, and everything that a bad one could do."""

import gzip
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MIB = 1 << 20


class ImageServer:
    """Listens on a free port of a loopback address, by TLS with `certificate`. `hung_up` is set once a client has left a request that never ends."""

    def __init__(self, picture, host="127.0.0.1", certificate=None):
        self.paths = []
        self.headers = []
        self.hung_up = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.paths.append(self.path)
                server.headers.append(self.headers)
                try:
                    getattr(server, self.path.partition("?")[0].strip("/").replace("-", "_"))(self)
                except OSError:
                    server.hung_up.set()

            def log_message(self, *_):
                pass

        self.picture_bytes = picture
        self.http = ThreadingHTTPServer((host, 0), Handler)
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True, do_handshake_on_connect=False)
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

    def picture(self, request):
        self.send(request, 200, self.picture_bytes, content_type="text/html")

    def text(self, request):
        self.send(request, 200, b"<html>no picture</html>", content_type="image/png")

    def empty(self, request):
        self.send(request, 200)

    def missing(self, request):
        self.send(request, 404, b"not here")

    def broken(self, request):
        self.send(request, 500)

    def zipped(self, request):
        self.send(request, 200, gzip.compress(self.picture_bytes), content_encoding="gzip")

    def cut(self, request):
        self.send(request, 200, self.picture_bytes, content_length=len(self.picture_bytes) + 1)
        request.close_connection = True

    def said_to_be_large(self, request):
        self.send(request, 200, content_length=21 * MIB)

    def endless(self, request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(MIB))

    def moved(self, request):
        self.send(request, 302, location="/picture")

    def around(self, request):
        self.send(request, 302, location="/around")

    def to_this_machine(self, request):
        self.send(request, 302, location=f"http://127.0.0.2:{self.port}/picture")

    def to_a_file(self, request):
        self.send(request, 302, location="file:///etc/passwd")

    def stuck(self, request):
        """Half a picture, and then nothing until the client hangs up."""
        request.send_response(200)
        request.send_header("content-length", str(len(self.picture_bytes)))
        request.end_headers()
        request.wfile.write(self.picture_bytes[: len(self.picture_bytes) // 2])
        request.wfile.flush()
        request.connection.recv(1)
        self.hung_up.set()
