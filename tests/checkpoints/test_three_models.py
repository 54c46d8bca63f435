"""Models of all three tasks in one server, asked at the same time."""

import random
import shutil
from concurrent.futures import ThreadPoolExecutor

from asking import ask
from hub_server import HubServer
from reference import PROMPTS, QUESTIONS, TEXTS, Case, encoded, made_up_pictures
from released import RELEASED, write_released, write_shapes
from serving import Server, difference

CALLERS = 12
ROUNDS = 2
ASKED = {
    "blip-vqa-base": {"answers": QUESTIONS, "answers by beams": QUESTIONS, "candidates": QUESTIONS},
    "blip-image-captioning-base": {"captions": PROMPTS, "captions by beams": PROMPTS},
    "blip-itm-base-coco": {"matches": TEXTS, "text vectors": TEXTS, "image vectors": ("",)},
}
MODELS = {task: model for model, tasks in ASKED.items() for task in tasks}
CASES = [Case(task, image, text) for tasks in ASKED.values() for task, texts in tasks.items() for image in (0, 1) for text in texts]


def test_mixed_requests_equal_single_requests(workshop, table, tmp_path):
    workshop.clear()
    chosen = [released for released in RELEASED if released.name in ASKED]
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
        assert [model.name for model in server.models()] == list(ASKED)
        pictures = [encoded(image) for image in made_up_pictures()]
        # Alone no model is named, which is the first that does what is asked; together each is asked by its name.
        alone = [ask(server.client, pictures, [case])[0] for case in CASES]
        order = list(range(len(CASES))) * ROUNDS
        random.Random(7).shuffle(order)
        with ThreadPoolExecutor(CALLERS) as pool:
            together = list(pool.map(lambda index: ask(server.client, pictures, [CASES[index]], MODELS[CASES[index].task])[0], order))
        apart = []
        for index, (ids, scores) in zip(order, together, strict=True):
            assert ids == alone[index][0], CASES[index]
            apart.append(difference(scores, alone[index][1], CASES[index]))
        table["the three base models at once"] = {
            "weights": "`model.safetensors`",
            "first start": f"{server.seconds_to_ready:.1f} s",
            "from the cache": "not started again",
            "resident": f"{server.resident_mib():,} MiB",
            "compared": f"{len(together)} mixed requests of {CALLERS} callers with each alone",
            "largest difference": f"{max(apart):.1e}",
        }
    finally:
        server.stop()
        hub.stop()
        shutil.rmtree(tmp_path)
