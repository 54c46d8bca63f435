"""A hub on loopback with its CDN on a separate port, for `huggingface_hub` and `blip-serve`."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

MODEL = "test-org/blip-demo"
COMMIT = "5ba1a9ab5f0f7dd5a5d9a1ed5b1d9a1f6f8d8c11"
# The hub stores these files outside of Git and serves them through its CDN.
LARGE = (".safetensors", ".bin", ".h5")
PIECE_BYTES = 1 << 20


class RemoteFile:
    """A file of a model, with the tag that the hub assigns. Its content stays on disk."""

    def __init__(self, path):
        self.name, self.path, self.size = path.name, path, path.stat().st_size
        self.is_large = self.name.endswith(LARGE)
        # Git stores the hash and the size of a large file instead of its content.
        hashed = hashlib.sha256() if self.is_large else hashlib.sha1(b"blob %d\0" % self.size)
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                hashed.update(piece)
        self.tag = hashed.hexdigest()
        pointer = (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.tag}\nsize {self.size}\n".encode()
        )
        self.pointer_size = len(pointer)
        self.git = (
            hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest() if self.is_large else self.tag
        )

    def listed(self):
        entry = {"type": "file", "path": self.name, "size": self.size, "oid": self.git}
        if self.is_large:
            entry["lfs"] = {"oid": self.tag, "size": self.size, "pointerSize": self.pointer_size}
        return entry


class HubServer:
    """Serves the files of folders by model names.

    While the event `hold` is cleared, the CDN does not answer. The next large file is cut after
    `break_after` bytes, once.
    """

    def __init__(self, models):
        self.models = {
            name: {path.name: RemoteFile(path) for path in folder.iterdir()}
            for name, folder in models.items()
        }
        self.blobs = {file.tag: file for files in self.models.values() for file in files.values()}
        self.requests = []  # of (server, method, path, authorization)
        self.resumed_from = []  # first bytes of the requested ranges
        self.break_after = None
        self.weights_requested, self.hold = threading.Event(), threading.Event()
        self.hold.set()
        self.cdn = self.listen("cdn", self.send_blob)
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
                    pass  # the client has disconnected

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
        for name, files in self.models.items():
            base = f"/api/models/{name}"
            if path in (base, f"{base}/revision/main", f"{base}/revision/{COMMIT}"):
                self.send_json(
                    request, {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in files]}
                )
            elif path in (f"{base}/tree/{COMMIT}", f"{base}/tree/main"):
                self.send_json(request, [file.listed() for file in files.values()])
            elif path.startswith(f"{base}/revision/"):
                self.send(request, 404, {"x-error-code": "RevisionNotFound"})
            elif path.startswith(f"/{name}/resolve/"):
                self.resolve(request, files.get(path.rsplit("/", 1)[1]))
            else:
                continue
            return
        self.send(request, 401, {"x-error-code": "RepoNotFound", "x-error-message": "Repository not found"})

    def resolve(self, request, file):
        headers = {"x-repo-commit": COMMIT}
        if not file:
            self.send(request, 404, {**headers, "x-error-code": "EntryNotFound"})
        elif file.is_large:
            location = f"http://127.0.0.1:{self.cdn.server_port}/{file.tag}?signature=secret"
            headers |= {
                "x-linked-etag": f'"{file.tag}"',
                "x-linked-size": str(file.size),
                "location": location,
            }
            self.send(request, 302, headers)
        else:
            self.send(request, 200, {**headers, "etag": f'"{file.tag}"'}, file.path.read_bytes())

    def send_blob(self, request, path):
        self.weights_requested.set()
        self.hold.wait()
        file = self.blobs[path.strip("/")]
        byte_range = request.headers["range"]
        start = int(byte_range.removeprefix("bytes=").split("-")[0]) if byte_range else 0
        part = {"content-range": f"bytes {start}-{file.size - 1}/{file.size}"} if byte_range else {}
        if byte_range:
            self.resumed_from.append(start)
        self.begin(request, 206 if byte_range else 200, part, file.size - start)
        if request.command == "HEAD":
            return
        with file.path.open("rb") as content:
            content.seek(start)
            if self.break_after is not None and file.size - start > self.break_after:
                request.wfile.write(content.read(self.break_after))
                request.close_connection, self.break_after = True, None
            else:
                shutil.copyfileobj(content, request.wfile, PIECE_BYTES)

    def send_json(self, request, value):
        self.send(request, 200, {"content-type": "application/json"}, json.dumps(value).encode())

    def send(self, request, status, headers, body=b""):
        self.begin(request, status, headers, len(body))
        if request.command != "HEAD":
            request.wfile.write(body)

    @staticmethod
    def begin(request, status, headers, length):
        request.send_response(status)
        for name, value in {**headers, "content-length": str(length)}.items():
            request.send_header(name, value)
        request.end_headers()
