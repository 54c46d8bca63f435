"""The checkpoint file of the original repository, at its image size."""

import shutil

from released_checkpoints import ORIGINAL, ORIGINAL_IMAGE_SIZE, write_original
from server import Server, case_counts, compare


def test_original_file_is_served_at_training_size(shapes_folder, table, tmp_path):
    shapes, reference = shapes_folder.shapes(ORIGINAL.preset, image_size=ORIGINAL_IMAGE_SIZE)
    path = write_original(tmp_path / "original", shapes)
    server = Server(path, variables={"HF_HUB_OFFLINE": "1"}, log=tmp_path / "log")
    try:
        (model,) = server.models()
        assert (model.parameters, model.image_size) == (ORIGINAL.parameters, ORIGINAL_IMAGE_SIZE)
        largest = compare(server.client, reference)
        table[ORIGINAL.name] = {
            "weights": "the file",
            "first start": f"{server.seconds_to_ready:.1f} s",
            "from the cache": "not applicable",
            "resident": f"{server.resident_mib():,} MiB",
            "compared": case_counts(reference.cases),
            "largest difference": f"{largest:.1e}",
        }
    finally:
        server.stop()
        shutil.rmtree(tmp_path)
