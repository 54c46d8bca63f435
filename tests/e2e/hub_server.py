"""A hub on loopback that has one model, with its CDN on a port of its own, as `huggingface_hub` and `blip-serve` expect them."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

MODEL = "test-org/blip-demo"
COMMIT = "5ba1a9ab5f0f7dd5a5d9a1ed5b1d9a1f6f8d8c11"
# What the hub keeps outside of Git, and gives by its CDN.
LARGE = (".safetensors", ".bin")


class Remote:
    """A file of the model, with the tag that the hub gives it."""

    def __init__(self, name, content):
        self.name, self.content, self.is_large = name, content, name.endswith(LARGE)
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.git, self.tag = git, hashlib.sha256(content).hexdigest() if self.is_large else git

    def listed(self):
        entry = {"type": "file", "path": self.name, "size": len(self.content), "oid": self.git}
        if self.is_large:
            entry["lfs"] = {"oid": self.tag, "size": len(self.content), "pointerSize": 134}
        return entry


class HubServer:
    """Gives the files of `folder`. `hold` keeps the CDN from answering until it is set."""

    def __init__(self, folder):
        self.files = {path.name: Remote(path.name, path.read_bytes()) for path in folder.iterdir()}
        self.requests = []  # of (server, method, path, authorization)
        self.asked_for_weights, self.hold = threading.Event(), threading.Event()
        self.hold.set()
        self.cdn = self.listen("cdn", self.give_blob)
        self.hub = self.listen("hub", self.answer)
        self.url = f"http://127.0.0.1:{self.hub.server_port}"

    def listen(self, name, respond):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                server.requests.append((name, self.command, self.path, self.headers["authorization"]))
                try:
                    respond(self, unquote(urlsplit(self.path).path))
                except OSError:
                    pass  # the client has left

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        return http

    def stop(self):
        self.hold.set()
        for http in (self.hub, self.cdn):
            http.shutdown()
            http.server_close()

    def answer(self, request, path):
        base = f"/api/models/{MODEL}"
        if path in (base, f"{base}/revision/main", f"{base}/revision/{COMMIT}"):
            self.give_json(request, {"id": MODEL, "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]})
        elif path in (f"{base}/tree/{COMMIT}", f"{base}/tree/main"):
            self.give_json(request, [file.listed() for file in self.files.values()])
        elif path.startswith(f"{base}/revision/"):
            self.send(request, 404, {"x-error-code": "RevisionNotFound"})
        elif path.startswith(f"/{MODEL}/resolve/"):
            self.resolve(request, path.rsplit("/", 1)[1])
        else:
            self.send(request, 401, {"x-error-code": "RepoNotFound", "x-error-message": "Repository not found"})

    def resolve(self, request, name):
        file = self.files.get(name)
        about = {"x-repo-commit": COMMIT}
        if not file:
            self.send(request, 404, {**about, "x-error-code": "EntryNotFound"})
        elif file.is_large:
            location = f"http://127.0.0.1:{self.cdn.server_port}/{name}?signature=secret"
            about |= {"x-linked-etag": f'"{file.tag}"', "x-linked-size": str(len(file.content)), "location": location}
            self.send(request, 302, about)
        else:
            self.send(request, 200, {**about, "etag": f'"{file.tag}"'}, file.content)

    def give_blob(self, request, path):
        self.asked_for_weights.set()
        self.hold.wait()
        content = self.files[path.strip("/")].content
        asked = request.headers["range"]
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        part = {"content-range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if asked else {}
        self.send(request, 206 if asked else 200, part, content[start:])

    def give_json(self, request, value):
        self.send(request, 200, {"content-type": "application/json"}, json.dumps(value).encode())

    @staticmethod
    def send(request, status, headers, body=b""):
        request.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
