"""The original repository's own file, at the picture size that it was trained for."""

import shutil

from released import ORIGINAL, ORIGINAL_IMAGE_SIZE, write_original
from serving import Server, compare, told


def test_original_file_is_served_at_training_size(workshop, table, tmp_path):
    shapes, reference = workshop.shapes(ORIGINAL.preset, image_size=ORIGINAL_IMAGE_SIZE)
    path = write_original(tmp_path / "original", shapes)
    server = Server(path, variables={"HF_HUB_OFFLINE": "1"}, log=tmp_path / "log")
    try:
        (model,) = server.models()
        assert (model.parameters, model.image_size) == (ORIGINAL.parameters, ORIGINAL_IMAGE_SIZE)
        largest = compare(server.client, reference)
        table[ORIGINAL.name] = {
            "weights": "itself",
            "first start": f"{server.seconds_to_ready:.1f} s",
            "from the cache": "it is a file",
            "resident": f"{server.resident_mib():,} MiB",
            "compared": told(reference.cases),
            "largest difference": f"{largest:.1e}",
        }
    finally:
        server.stop()
        shutil.rmtree(tmp_path)
