"""The page at `/` in Chromium: its results are those of the API."""

import math
import re

import pytest
from playwright.sync_api import expect
from trial_page import QUESTIONS, ask, caption, choose, explain, match, percent

TEXTS = ["a red triangle", "two blue circles", "a green star"]
STAGES = ["fetch", "decode and scale", "queue", "vision encoder", "text encoder", "generation"]


def test_answers_are_those_of_the_api(demo, open_page, image_file, image):
    page = open_page(demo)
    task = ask(page)
    choose(page, image_file)
    task.run(*QUESTIONS)
    [expected] = demo.post("/v1/ask", image, QUESTIONS)["captions"]
    expect(task.results).to_have_text(expected["image_results"])
    assert task.scores() == [percent(math.exp(details["score"])) for details in expected["details"]]
    assert task.items.locator(".text").all_inner_texts() == QUESTIONS
    expect(task.status).to_have_text("3 of 3 done.")
    expect(task.item_errors.filter(visible=True)).to_have_count(0)
    timing = task.items.first.locator("details")
    timing.locator("summary").click()
    assert timing.get_by_role("rowheader").all_inner_texts() == STAGES
    expect(timing.get_by_role("cell").filter(has_text=" ms")).to_have_count(len(STAGES))


def test_alternatives_follow_the_answer(demo, open_page, image_file, image):
    page = open_page(demo)
    task = ask(page)
    choose(page, image_file)
    task.section.get_by_label("Alternative answers").select_option("2")
    task.run(*QUESTIONS)
    [expected] = demo.post("/v1/ask", image, QUESTIONS, generation={"num_answers": 3})["captions"]
    for item, details in zip(task.items.all(), expected["details"], strict=True):
        found = [text.split() for text in item.locator(".alternatives > li").all_inner_texts()]
        assert found == [
            [*other["text"].split(), *percent(math.exp(other["score"])).split()] for other in details["alternatives"]
        ]
        assert len(found) == 2


def test_caption_appears_while_it_is_generated(demo, open_page, image_file, image):
    page = open_page(demo)
    task = caption(page)
    choose(page, image_file)
    # Records the pieces that the page adds.
    page.evaluate("""() => {
        window.pieces = [];
        const record = (changes) => {
            for (const change of changes) {
                if (change.target.className === "result") {
                    window.pieces.push(...[...change.addedNodes].map((node) => node.textContent));
                }
            }
        };
        const list = document.querySelector("#caption .results");
        new MutationObserver(record).observe(list, { childList: true, subtree: true });
    }""")
    task.run()
    [expected] = demo.post("/v1/caption", image, generation={"num_beams": 1})["captions"]
    expect(task.results).to_have_text(expected["image_results"])
    *pieces, whole = page.evaluate("window.pieces")
    assert len(pieces) > 1 and "".join(pieces) == whole == expected["image_results"][0]


def test_caption_continues_its_beginning(demo, open_page, image_file, image):
    page = open_page(demo)
    task = caption(page)
    choose(page, image_file)
    task.section.get_by_label("while it is generated").uncheck()
    task.run("a picture of", "there are")
    [expected] = demo.post("/v1/caption", image, ["a picture of", "there are"])["captions"]
    expect(task.results).to_have_text(expected["image_results"])


def test_texts_have_the_scores_of_the_api(demo, open_page, image_file, image):
    page = open_page(demo)
    task = match(page)
    choose(page, image_file)
    task.run(*TEXTS)
    [expected] = demo.post("/v1/match", image, TEXTS)["matches"]
    scores = [f"{percent(score['probability'])} cosine {score['cosine']:.3f}" for score in expected["image_results"]]
    expect(task.results).to_have_text(scores)


@pytest.mark.parametrize("models, shown", [("demo", [True, False, False]), ("demo-match", [False, False, True])])
def test_only_tasks_of_the_models_are_shown(start, open_page, models, shown):
    page = open_page(start("--model", models))
    expect(page.locator("#server-status")).to_have_text(f"Models: {models}")
    assert [task(page).submit.is_visible() for task in (ask, caption, match)] == shown


# Returns how light the heat map is in the middle of each patch of 8 x 8.
LIGHTNESS = """(canvas) => {
    const pixels = canvas.getContext("2d");
    const [width, height] = [canvas.width / 8, canvas.height / 8];
    return [...Array(64).keys()].map((index) => {
        const [x, y] = [(index % 8 + 0.5) * width, (Math.floor(index / 8) + 0.5) * height];
        const [red, green, blue] = pixels.getImageData(x, y, 1, 1).data;
        return red + green + blue;
    });
}"""
# Weights that differ less have the same colour, of 0 to 765.
ROUNDING = 3


def test_heat_map_shows_where_the_model_looked(demo, open_page, image_file, image, screenshot):
    page = open_page(demo, viewport={"width": 1100, "height": 1250})
    task = ask(page)
    choose(page, image_file)
    task.run(*QUESTIONS)
    expect(task.section.locator(".heat-map")).to_have_count(0)
    explain(page)
    task.run(*QUESTIONS)
    maps = task.section.locator(".heat-map")
    expect(maps).to_have_count(len(QUESTIONS))
    [expected] = demo.post("/v1/ask", image, QUESTIONS, explain=True)["captions"]
    for heat_map, details in zip(maps.all(), expected["details"], strict=True):
        canvas = heat_map.locator(".layers canvas")
        assert canvas.bounding_box() == heat_map.locator("img").bounding_box()
        text = heat_map.locator("figcaption").inner_text()
        assert canvas.get_attribute("aria-label") == text
        row, column = map(int, re.search(r"row (\d+) of 8 and column (\d+) of 8 has the highest", text).groups())
        lightness = canvas.evaluate(LIGHTNESS)
        assert lightness[8 * (row - 1) + column - 1] >= max(lightness) - ROUNDING > min(lightness)
        weights = details["attention"]["weights"]
        assert weights[8 * (row - 1) + column - 1] == max(weights)
        assert heat_map.locator(".legend").inner_text().split("\n") == ["0 %", percent(max(weights))]
    page.evaluate("scrollTo(0, 0)")
    screenshot(page, "page.png")
