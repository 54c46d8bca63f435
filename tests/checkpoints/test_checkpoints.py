"""Every public checkpoint by its name: from a hub with an empty cache, then from the cache."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hub_server import COMMIT, HubServer
from reference_cases import Reference
from released_checkpoints import RELEASED, ReleasedCheckpoint, write_released
from server import Server, case_counts, compare

# Each download of weights is cut at this size, once.
BREAK_AFTER_BYTES = 300_000_000


@dataclass
class ServedCheckpoint:
    """A checkpoint that the server has downloaded into an empty cache."""

    released: ReleasedCheckpoint
    reference: Reference
    hub: HubServer
    server: Server
    folder: Path
    variables: dict
    row: dict


@pytest.fixture(scope="module", params=RELEASED, ids=lambda released: released.name)
def served(request, shapes_folder, table, tmp_path_factory):
    released = request.param
    shapes, reference = shapes_folder.shapes(released.preset)
    folder = tmp_path_factory.mktemp(released.name)
    write_released(folder / "published", released, shapes)
    hub = HubServer({released.source: folder / "published"})
    hub.break_after = BREAK_AFTER_BYTES
    variables = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(folder / "cache")}
    row = table.setdefault(released.source, {"weights": f"`{released.weights[0]}`"})
    served = None
    try:
        server = Server(released.source, variables=variables, log=folder / "log")
        served = ServedCheckpoint(released, reference, hub, server, folder, variables, row)
        row["first start"] = f"{server.seconds_to_ready:.1f} s"
        yield served
    finally:
        if served:
            served.server.stop()
        hub.stop()
        shutil.rmtree(folder)


def test_checkpoint_is_identified_by_shapes(served):
    (model,) = served.server.models()
    released = served.released
    task = type(model).DESCRIPTOR.fields_by_name["task"].enum_type.values_by_number[model.task].name
    assert (model.name, model.source, model.revision, task) == (
        released.name,
        released.source,
        COMMIT,
        released.task,
    )
    assert (model.parameters, model.image_size, model.max_text_tokens) == (released.parameters, 384, 512)
    assert (model.embedding_size, model.device, model.dtype) == (released.embedding_size, "cpu", "f32")


def test_download_takes_required_files_and_resumes(served):
    (snapshot,) = served.folder.glob("cache/*/snapshots/*")
    assert snapshot.name == COMMIT
    assert {path.name for path in snapshot.iterdir()} == served.released.downloaded
    assert served.hub.resumed_from == [BREAK_AFTER_BYTES]


def test_tasks_equal_reference(served):
    largest = compare(served.server.client, served.reference)
    served.row["compared"] = case_counts(served.reference.cases)
    served.row["largest difference"] = f"{largest:.1e}"
    served.row["resident"] = f"{served.server.resident_mib():,} MiB"


def test_server_starts_from_cache_without_hub(served):
    served.server.stop()
    served.hub.stop()
    offline = served.variables | {"HF_HUB_OFFLINE": "1"}
    served.server = Server(served.released.source, variables=offline, log=served.folder / "log")
    served.row["from the cache"] = f"{served.server.seconds_to_ready:.1f} s"
    assert served.server.models()[0].revision == COMMIT
    compare(served.server.client, served.reference)
