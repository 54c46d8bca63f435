"""Worker processes that decode images: limits, callers that leave, crashes and the drain."""

import os
import re
import select
import signal
import struct
import zlib
from pathlib import Path

import pytest
from test_metrics import Metrics, until
from test_request_errors import assert_documented

QUESTION = "how many circles are in the picture?"
THREADS = 2
ENDED = "blip_decode_workers_ended_total"
MESSAGE = r"inputs\[0\]\.image\.data takes too long to decode: \d+ ms of CPU time, 20 ms allowed"


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def large_png(number):
    """Returns a valid image of 25 megapixels, which differs from others by its comment."""
    side = 5000
    pack = zlib.compressobj(1)
    row = bytes(1 + 3 * side)
    pixels = b"".join(pack.compress(row) for _ in range(side)) + pack.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    comment = chunk(b"tEXt", b"number\0%d" % number)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + comment + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def slow_jpeg(number, scans=60):
    """Returns a valid progressive image of 25 megapixels whose scans refine nothing.

    Its decoding takes more than a second of CPU time, several times as much as a worker's start.
    """
    side, blocks = 5000, 625 * 625
    table = jpeg_segment(0xDB, b"\0" + b"\1" * 64)
    frame = jpeg_segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    huffman = jpeg_segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0")
    # Each code is a run of 2^14 blocks or more without coefficients.
    runs = "".join("0" + "0" * 14 for _ in range(-(-blocks // 16384)))
    runs += "1" * (-len(runs) % 8)
    data = int(runs, 2).to_bytes(len(runs) // 8, "big").replace(b"\xff", b"\xff\0")
    first, refining = (jpeg_segment(0xDA, b"\1\1\0\1\x3f" + bits) + data for bits in (b"\1", b"\x10"))
    comment = jpeg_segment(0xFE, b"%d" % number)
    return b"\xff\xd8" + comment + table + frame + huffman + first + refining * (scans - 1) + b"\xff\xd9"


def small_png(number):
    """Returns a valid image of 64 x 64 pixels, which differs from others by its colour."""
    row = b"\0" + bytes([number % 256, number // 256, 9]) * 64
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    pixels = zlib.compress(row * 64)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def workers(server):
    """Returns the process ids of the workers of a server."""
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def outcome(server, image):
    return server.client.outcomes([(image, [QUESTION])])[0, 0]


def is_answered(server, image):
    return bool(getattr(outcome(server, image), "token_ids", None))


def ended(server, cause):
    return Metrics(server).value(ENDED, cause=cause)


def cpu_seconds(pid):
    """Returns the CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid):
    """Returns the memory of a process, without that of others."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Private_Dirty:\s+(\d+) kB", text, re.MULTILINE)[1]) << 10


def have_ended(processes):
    """Returns whether all processes end within 10 s."""
    return all(select.select([process], [], [], 10)[0] for process in processes)


@pytest.fixture
def serve(start):
    return lambda *options: start("--preprocess-threads", str(THREADS), *options)


def test_image_beyond_cpu_limit_is_rejected_alone(serve):
    server = serve("--decode-max-cpu-ms", "20")
    for number in range(2 * THREADS):
        error = outcome(server, large_png(number))
        assert_documented(error, "INVALID_ARGUMENT", "IMAGE_TOO_MUCH_CPU")
        assert re.fullmatch(MESSAGE, error.message)
    assert is_answered(server, small_png(1))
    assert ended(server, "cpu_limit") == 2 * THREADS


def test_image_beyond_memory_limit_is_rejected_alone(serve):
    server = serve("--decode-max-memory-bytes", str(32 << 20))
    outcomes = server.client.outcomes([(large_png(0), [QUESTION]), (small_png(1), [QUESTION])])
    assert_documented(outcomes[0, 0], "INVALID_ARGUMENT", "IMAGE_TOO_MUCH_MEMORY")
    assert f"{32 << 20} bytes allowed" in outcomes[0, 0].message
    assert outcomes[1, 0].token_ids
    assert is_answered(server, small_png(2))
    assert ended(server, "memory_limit") == 1


def test_largest_images_are_answered_by_default(serve):
    server = serve()
    assert is_answered(server, large_png(0))
    assert is_answered(server, slow_jpeg(0))


def test_idle_workers_do_not_keep_the_memory_of_a_large_image(serve):
    server = serve()
    assert is_answered(server, small_png(1))
    before = sum(map(resident_bytes, workers(server)))
    assert is_answered(server, large_png(0))
    # The pixels of the image are 75 MB.
    assert sum(map(resident_bytes, workers(server))) - before < 24 << 20


def test_worker_of_caller_that_left_is_ended(serve):
    server = serve()

    def leave(attempt):
        """Leaves while images are decoded. Returns whether a worker was ended."""
        before = [(pid, cpu_seconds(pid)) for pid in workers(server)]
        images = [slow_jpeg(THREADS * attempt + number) for number in range(THREADS)]
        call = server.client.ask([(image, [QUESTION]) for image in images])
        until(server, lambda _: any(cpu_seconds(pid) > idle for pid, idle in before))
        call.cancel()
        # Waits for the workers.
        assert is_answered(server, small_png(attempt))
        return Metrics(server).value(ENDED, cause="hang_up") > 0

    # A caller that leaves late finds its decode finished.
    assert any(leave(attempt) for attempt in range(20))


def test_killed_workers_are_replaced(serve):
    server = serve()
    for number in range(3):
        killed = [os.pidfd_open(pid) for pid in workers(server)]
        assert len(killed) == THREADS
        for process in killed:
            signal.pidfd_send_signal(process, signal.SIGKILL)
        assert have_ended(killed)
        for image in range(THREADS):
            assert is_answered(server, small_png(10 * number + image))


def test_workers_are_confined(serve):
    server = serve()
    until(server, lambda metrics: metrics.value("blip_decode_workers_started_total") == THREADS)
    for pid in workers(server):
        status = Path(f"/proc/{pid}/status").read_text()
        assert re.search(r"^Threads:\s+1$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        assert re.search(r"^Seccomp:\s+2$", status, re.MULTILINE)


def test_drain_does_not_wait_for_decoders(serve):
    server = serve("--drain-grace-s", "0", "--drain-limit-s", "1")
    running = [os.pidfd_open(pid) for pid in workers(server)]
    # More than ten seconds of CPU time for each worker.
    call = server.client.ask([(slow_jpeg(number), [QUESTION]) for number in range(30)])
    until(server, lambda metrics: metrics.value("blip_requests_in_flight", protocol="grpc") > 0)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=10) == 3
    assert have_ended(running)
    call.cancel()


def test_workers_end_with_killed_server(serve):
    server = serve()
    running = [os.pidfd_open(pid) for pid in workers(server)]
    server.process.kill()
    assert len(running) == THREADS and have_ended(running)


def test_isolation_by_thread_starts_no_workers(serve):
    server = serve("--decode-isolation", "thread")
    assert is_answered(server, small_png(1))
    assert workers(server) == []
