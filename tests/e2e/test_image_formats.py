"""The image decoder equals Pillow on generated files, except for the listed differences."""

import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parents[1] / "reference/images"))

from image_differences import differences, expected_differences


def test_decoder_differs_from_pillow_only_as_listed():
    # `cargo test --no-run` builds the examples beside the server.
    program = pathlib.Path(os.environ["BLIP_SERVE_BIN"]).parent / "examples/decode_files"
    count, found = differences(program)
    assert count >= 1271
    assert found == expected_differences()
