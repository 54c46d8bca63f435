"""The stand-in itself: it records each broken rule of CUDA, and none where no rule is broken."""

import subprocess
import sys

import pytest
from engine import environment
from trace import Trace

# Variables and functions for the programs below.
PRELUDE = """
import ctypes, sys, threading
cuda = ctypes.CDLL(sys.argv[1] + "/libcudart.so.13")
THREAD_LOCAL, TO_DEVICE, TO_HOST = 1, 1, 2
cuda.cudaMemcpyAsync.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p]
def pointer(function, *arguments):
    made = ctypes.c_void_p()
    assert function(ctypes.byref(made), *arguments) == 0
    return made
def device(): return pointer(cuda.cudaMalloc, ctypes.c_size_t(64))
def page_locked(): return pointer(cuda.cudaHostAlloc, ctypes.c_size_t(64), 0)
def stream(): return pointer(cuda.cudaStreamCreateWithPriority, 0, 0)
def event(flags=0): return pointer(cuda.cudaEventCreateWithFlags, flags)
def begin(on): assert cuda.cudaStreamBeginCapture(on, THREAD_LOCAL) == 0
def end(on):
    graph = ctypes.c_void_p()
    return cuda.cudaStreamEndCapture(on, ctypes.byref(graph))
def fill(on): return cuda.cudaMemsetAsync(block, 0, ctypes.c_size_t(64), on)
def upload(on): cuda.cudaMemcpyAsync(block, host, 64, TO_DEVICE, on)
def change(): ctypes.memset(host, 1, 64)
block, host, work = device(), page_locked(), stream()
"""

# A program, and the violations that it must cause.
PROGRAMS = {
    "correct_upload": ("upload(work); cuda.cudaStreamSynchronize(work); change(); cuda.cudaFreeHost(host)", []),
    "correct_capture": ("begin(work); fill(work); assert end(work) == 0", []),
    "allocation_in_capture": (
        "begin(work); cuda.cudaMalloc(ctypes.byref(ctypes.c_void_p()), ctypes.c_size_t(1)); assert end(work) != 0",
        ["call that a capture forbids"],
    ),
    "wait_in_capture": (
        "begin(work); cuda.cudaStreamSynchronize(work); assert end(work) != 0",
        ["wait for a stream that captures"],
    ),
    "default_stream_in_capture": (
        "begin(work); fill(None); end(work)",
        ["work on the default stream while this thread captures"],
    ),
    "capture_of_default_stream": (
        "assert cuda.cudaStreamBeginCapture(None, THREAD_LOCAL) != 0",
        ["capture of the default stream or of a stream that captures"],
    ),
    "other_thread_in_capture": (
        "begin(work); t = threading.Thread(target=fill, args=[work]); t.start(); t.join(); end(work)",
        ["work of another thread in a capture"],
    ),
    "upload_in_capture": ("begin(work); upload(work); end(work)", ["copy between host and device in a capture"]),
    "early_change": (
        "upload(work); change(); cuda.cudaStreamSynchronize(work)",
        ["change of page-locked memory before its copy is done"],
    ),
    "wait_for_another_stream": (
        "upload(work); other = stream(); fill(other); cuda.cudaStreamSynchronize(other); change();"
        "cuda.cudaStreamSynchronize(work)",
        ["change of page-locked memory before its copy is done"],
    ),
    "wait_for_an_event_of_another_stream": (
        "upload(work); done, other = event(), stream(); cuda.cudaEventRecord(done, work);"
        "cuda.cudaStreamWaitEvent(other, done, 0); fill(other); cuda.cudaStreamSynchronize(other); change()",
        [],
    ),
    "early_release": (
        "upload(work); cuda.cudaFreeHost(host)",
        ["release of page-locked memory before its copy is done"],
    ),
    "second_release": ("cuda.cudaFree(block); cuda.cudaFree(block)", ["release of memory that is not allocated"]),
    "stream_of_another_device": (
        "cuda.cudaSetDevice(1); fill(work)",
        ["work on a stream of a device that is not the current one"],
    ),
    "event_without_time": (
        "a, b = event(2), event(2); cuda.cudaEventRecord(a, work); cuda.cudaEventRecord(b, work);"
        "cuda.cudaStreamSynchronize(work);"
        "assert cuda.cudaEventElapsedTime(ctypes.byref(ctypes.c_float()), a, b) != 0",
        ["time between events that have none"],
    ),
    "event_of_a_capture": (
        "e = event(); begin(work); cuda.cudaEventRecord(e, work); end(work); assert cuda.cudaEventQuery(e) != 0",
        ["query of an event that a capture recorded"],
    ),
    "early_read": (
        "cuda.cudaMemcpyAsync(host, block, 64, TO_HOST, work); assert ctypes.string_at(host, 64) != bytes(64);"
        "cuda.cudaStreamSynchronize(work); assert ctypes.string_at(host, 64) == bytes(64)",
        [],
    ),
}


def run(folder, path, program):
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + program, str(folder)],
        env=environment(folder, path, devices=2),
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", PROGRAMS)
def test_broken_rule_is_a_violation(stand_in, tmp_path, name):
    program, violations = PROGRAMS[name]
    completed = run(stand_in, tmp_path / "trace.tsv", program)
    assert completed.returncode == 0, completed.stderr
    events = Trace(tmp_path / "trace.tsv").events()
    assert [event.name for event in events if event.kind == "violation"] == violations


def test_device_memory_is_inaccessible_to_the_host(stand_in, tmp_path):
    completed = run(stand_in, tmp_path / "trace.tsv", "ctypes.string_at(block, 1)")
    assert completed.returncode < 0, "the program ended with a signal"


def test_function_without_stand_in_is_recorded(stand_in, tmp_path):
    program = 'assert ctypes.CDLL(sys.argv[1] + "/libcusparse.so.12").cusparseCreate(None) != 0'
    assert run(stand_in, tmp_path / "trace.tsv", program).returncode == 0
    faults = Trace(tmp_path / "trace.tsv").faults()
    assert faults == {("unexpected", "cusparseCreate", ""): 1}
