"""Concurrent requests to the models of all three tasks in one server."""

import random
import shutil
from concurrent.futures import ThreadPoolExecutor

from hub_server import HubServer
from reference_cases import PROMPTS, QUESTIONS, TEXTS, Case, encoded, case_images
from released_checkpoints import RELEASED, write_released, write_shapes
from server import Server, difference
from task_requests import ask

CLIENTS = 12
ROUNDS = 2
TEXTS_BY_TASK = {
    "blip-vqa-base": {"answers": QUESTIONS, "answers by beams": QUESTIONS, "candidates": QUESTIONS},
    "blip-image-captioning-base": {"captions": PROMPTS, "captions by beams": PROMPTS},
    "blip-itm-base-coco": {"matches": TEXTS, "text embeddings": TEXTS, "image embeddings": ("",)},
}
MODELS = {task: model for model, tasks in TEXTS_BY_TASK.items() for task in tasks}
CASES = [
    Case(task, image, text)
    for tasks in TEXTS_BY_TASK.values()
    for task, texts in tasks.items()
    for image in (0, 1)
    for text in texts
]


def test_mixed_requests_equal_single_requests(shapes_folder, table, tmp_path):
    shapes_folder.clear()
    chosen = [released for released in RELEASED if released.name in TEXTS_BY_TASK]
    published = {}
    for released in chosen:
        shapes = tmp_path / released.preset
        write_shapes(shapes, released.preset)
        published[released.source] = tmp_path / "published" / released.name
        write_released(published[released.source], released, shapes)
        shutil.rmtree(shapes)
    hub = HubServer(published)
    variables = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    server = Server(*published, variables=variables, log=tmp_path / "log")
    try:
        assert [model.name for model in server.models()] == list(TEXTS_BY_TASK)
        images = [encoded(image) for image in case_images()]
        # Single requests name no model, so that the first one with the task answers. Concurrent
        # ones name it.
        single = [ask(server.client, images, [case])[0] for case in CASES]
        order = list(range(len(CASES))) * ROUNDS
        random.Random(7).shuffle(order)
        with ThreadPoolExecutor(CLIENTS) as pool:
            concurrent = list(
                pool.map(
                    lambda index: ask(server.client, images, [CASES[index]], MODELS[CASES[index].task])[0],
                    order,
                )
            )
        differences = []
        for index, (ids, scores) in zip(order, concurrent, strict=True):
            assert ids == single[index][0], CASES[index]
            differences.append(difference(scores, single[index][1], CASES[index]))
        table["the three base models at once"] = {
            "weights": "`model.safetensors`",
            "first start": f"{server.seconds_to_ready:.1f} s",
            "from the cache": "not measured",
            "resident": f"{server.resident_mib():,} MiB",
            "compared": f"{len(concurrent)} mixed requests of {CLIENTS} clients with single requests",
            "largest difference": f"{max(differences):.1e}",
        }
    finally:
        server.stop()
        hub.stop()
        shutil.rmtree(tmp_path)
