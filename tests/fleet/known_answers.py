"""Questions about images, with the answers of a server to single requests."""

import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import easy_vqa
from blip_client import BlipClient

IMAGES = 16
QUESTIONS = 3


@dataclass(frozen=True)
class KnownAnswers:
    """An image with its questions and their answers as token ids."""

    image: bytes
    questions: tuple
    answers: tuple


def noise(side, seed):
    """Returns an incompressible PNG, larger than gRPC's default retry buffer of 256 KiB."""
    pixels = random.Random(seed).randbytes(3 * side * side)
    rows = b"".join(b"\0" + pixels[3 * side * row : 3 * side * (row + 1)] for row in range(side))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows, 0))
        + chunk(b"IEND", b"")
    )


async def single_answers(address):
    """Returns the answers of a server to each question alone."""
    texts, _, images = easy_vqa.get_test_questions()
    paths = easy_vqa.get_test_image_paths()
    inputs = [
        (
            Path(paths[image]).read_bytes(),
            [text for text, owner in zip(texts, images) if owner == image][:QUESTIONS],
        )
        for image in range(IMAGES)
    ]
    inputs.append((noise(340, seed=1), ["is there a circle?", "what color is the shape?"]))
    result = []
    async with BlipClient(f"ipv4:{address}") as client:
        for image, questions in inputs:
            answers = []
            for text in questions:
                [(_, _, answer)] = [outcome async for outcome in client.ask([(image, [text])])]
                answers.append(tuple(answer.token_ids))
            result.append(KnownAnswers(image, tuple(questions), tuple(answers)))
    return result
