"""Questions about pictures, and the answers of a server that is asked one at a time."""

import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import easy_vqa
from blip_client import BlipClient

PICTURES = 16
QUESTIONS = 3


@dataclass(frozen=True)
class Known:
    """One picture with its questions and answers, as token ids."""

    image: bytes
    questions: tuple
    answers: tuple


def noise(side, seed):
    """A PNG of random pixels, which no format makes smaller: larger than the 256 KiB that gRPC keeps of a request by default."""
    pixels = random.Random(seed).randbytes(3 * side * side)
    rows = b"".join(b"\0" + pixels[3 * side * row : 3 * side * (row + 1)] for row in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


async def lone_answers(address):
    """What this server answers to each question alone."""
    texts, _, images = easy_vqa.get_test_questions()
    paths = easy_vqa.get_test_image_paths()
    asked = [(Path(paths[image]).read_bytes(), [text for text, of in zip(texts, images) if of == image][:QUESTIONS])
             for image in range(PICTURES)]
    asked.append((noise(340, seed=1), ["is there a circle?", "what color is the shape?"]))
    known = []
    async with BlipClient(f"ipv4:{address}") as client:
        for image, questions in asked:
            answers = []
            for text in questions:
                [(_, _, answer)] = [outcome async for outcome in client.ask([(image, [text])])]
                answers.append(tuple(answer.token_ids))
            known.append(Known(image, tuple(questions), tuple(answers)))
    return known
