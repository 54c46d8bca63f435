"""The page at `/` by keyboard, on a phone, and in light and dark."""

import pytest
from playwright.sync_api import expect
from trial_page import QUESTIONS, ask, caption, choose, explain, match

# Returns the contrast of the text of an element with its background (WCAG 2.2, section 1.4.3).
CONTRAST = """(element) => {
    const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const luminance = (colour) => {
        const [red, green, blue] = numbers(colour).slice(0, 3).map((value) => value / 255)
            .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    let behind = element;
    while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) {
        behind = behind.parentElement;
    }
    const found = [element, behind].map((one, index) =>
        luminance(getComputedStyle(one)[index === 0 ? "color" : "backgroundColor"]));
    return (Math.max(...found) + 0.05) / (Math.min(...found) + 0.05);
}"""


def tab_to(page, target):
    """Presses the tab key until `target` has the focus, and checks that the focus is visible."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if target.evaluate("(element) => element === document.activeElement"):
            assert target.evaluate("(element) => getComputedStyle(element).outlineStyle") == "solid"
            return
    raise AssertionError(f"the tab key does not reach {target}")


def test_keyboard_alone_gets_answers(demo, open_page):
    page = open_page(demo)
    task = ask(page)
    expect(task.submit).to_be_visible()
    tab_to(page, page.get_by_role("button", name="Use the example image"))
    page.keyboard.press("Enter")
    expect(page.get_by_alt_text("The selected image")).to_be_visible()
    tab_to(page, task.texts)
    page.keyboard.type(QUESTIONS[0])
    page.keyboard.press("Enter")
    page.keyboard.type(QUESTIONS[1])
    tab_to(page, task.submit)
    page.keyboard.press("Enter")
    expect(task.results).to_have_text(["5", "ring"])
    expect(task.submit).to_be_focused()
    timing = task.items.first.locator("summary")
    tab_to(page, timing)
    page.keyboard.press("Enter")
    expect(task.items.first.get_by_role("table")).to_be_visible()
    tab_to(page, match(page).texts)
    page.keyboard.type("a red triangle")
    page.keyboard.press("Control+Enter")
    expect(match(page).status).to_have_text("1 of 1 done.")


def test_controls_follow_the_order_of_the_page(demo, open_page):
    page = open_page(demo)
    expect(caption(page).submit).to_be_visible()
    order = ["summary", "#file", "#url", "#example", "#ask-model", "#ask-texts", "#ask-alternatives", "#ask-explain"]
    order += ["#ask button", "#caption-model", "#caption-texts", "#caption-stream", "#caption button"]
    for selector in [*order, "#match-model", "#match-texts", "#match button"]:
        target = page.locator(selector).first
        page.keyboard.press("Tab")
        while page.evaluate("document.activeElement.closest('header') !== null"):
            page.keyboard.press("Tab")
        expect(target).to_be_focused()


def test_results_are_announced(demo, open_page):
    page = open_page(demo)
    for task in (ask(page), caption(page), match(page)):
        assert task.section.locator(".results").get_attribute("aria-live") == "polite"
        assert task.error.get_attribute("role") == "alert"
    for field in page.locator("input, select, textarea").all():
        assert field.evaluate("(field) => field.labels.length") == 1


def test_phone_scrolls_in_one_direction_only(demo, open_page, image_file):
    page = open_page(demo, viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    choose(page, image_file)
    ask(page).section.get_by_label("Alternative answers").select_option("4")
    explain(page)
    ask(page).run(*QUESTIONS, "x" * 300)
    ask(page).items.first.locator("summary").click()
    page.get_by_text("API key", exact=True).click()
    expect(page.locator(".heat-map").first).to_be_visible()
    caption(page).run()
    match(page).run("y" * 300, "a red triangle")
    page.get_by_label("URL").fill(f"https://images.invalid/{'z' * 300}.png")
    width = "document.documentElement.scrollWidth"
    assert page.evaluate(width) == page.evaluate("innerWidth") == 360
    wide = [control for control in page.locator("button, input, select, textarea").all() if control.is_visible()]
    for box in (control.bounding_box() for control in wide):
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(demo, open_page, scheme):
    page = open_page(demo, color_scheme=scheme)
    page.get_by_label("URL").fill("no url")
    task = ask(page)
    task.run("is it red?")
    background = page.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 128) == (scheme == "dark")
    for text in (page.locator("h1"), page.locator(".hint").last, task.status, task.item_errors, task.submit):
        assert text.evaluate(CONTRAST) >= 4.5, text
    for text in (page.get_by_role("link", name="API"), page.get_by_role("button", name="Use the example image")):
        assert text.evaluate(CONTRAST) >= 4.5, text
