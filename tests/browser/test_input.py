"""How an image gets into the page at `/`."""

import base64

import pytest
from playwright.sync_api import expect
from trial_page import QUESTIONS, ask, choose

# Creates a DataTransfer with the bundled image as a file.
TRANSFER = """([content, name]) => {
    const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, { type: "image/png" }));
    return transfer;
}"""


@pytest.fixture
def answers(demo, image):
    """What the API answers to the questions about the bundled image."""
    return demo.post("/v1/ask", image, QUESTIONS)["captions"][0]["image_results"]


def expect_answers(page, answers):
    task = ask(page)
    task.run(*QUESTIONS)
    expect(task.results).to_have_text(answers)


def test_dropped_file_is_the_image(demo, open_page, image, answers):
    page = open_page(demo)
    transfer = page.evaluate_handle(TRANSFER, [image["base64"], "dropped.png"])
    page.get_by_label("File").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.locator("#image-name")).to_have_text("dropped.png")
    expect_answers(page, answers)


def test_dropped_link_is_the_url(demo, open_page):
    page = open_page(demo)
    transfer = page.evaluate_handle("""() => {
        const transfer = new DataTransfer();
        transfer.setData("text/uri-list", "# a comment\\r\\nhttps://images.invalid/a.png");
        return transfer;
    }""")
    page.locator("body").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.get_by_label("URL")).to_have_value("https://images.invalid/a.png")
    # The browser does not load the image, which `open_page` checks.
    expect(page.get_by_alt_text("The selected image")).to_be_hidden()


def test_pasted_image_is_the_image(demo, open_page, answers):
    page = open_page(demo, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("""async () => {
        const response = await fetch("page/example.png");
        await navigator.clipboard.write([new ClipboardItem({ "image/png": await response.blob() })]);
    }""")
    ask(page).texts.focus()
    page.keyboard.press("Control+V")
    expect(page.get_by_alt_text("The selected image")).to_be_visible()
    assert ask(page).texts.input_value() == ""
    expect_answers(page, answers)


def test_pasted_text_is_text(demo, open_page):
    page = open_page(demo, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('is it red?')")
    ask(page).texts.focus()
    page.keyboard.press("Control+V")
    expect(ask(page).texts).to_have_value("is it red?")


def test_example_is_the_bundled_image(demo, open_page, answers):
    page = open_page(demo)
    page.get_by_role("button", name="Use the example image").click()
    expect(page.locator("#image-name")).to_have_text("example.png")
    expect_answers(page, answers)


def test_data_url_is_the_image(demo, open_page, image_file, answers):
    page = open_page(demo)
    encoded = base64.b64encode(image_file.read_bytes()).decode()
    page.get_by_label("URL").fill(f"data:image/png;base64,{encoded}")
    expect(page.get_by_alt_text("The selected image")).to_be_visible()
    expect_answers(page, answers)


def test_last_selection_wins(demo, open_page, image_file, answers):
    page = open_page(demo)
    page.get_by_label("URL").fill("https://images.invalid/a.png")
    choose(page, image_file)
    expect(page.get_by_label("URL")).to_have_value("")
    expect_answers(page, answers)
    page.get_by_label("URL").fill("https://images.invalid/a.png")
    expect(page.get_by_alt_text("The selected image")).to_be_hidden()
    assert page.get_by_label("File").input_value() == ""


def test_request_without_image_names_what_is_missing(demo, open_page):
    page = open_page(demo)
    task = ask(page)
    task.run("is it red?")
    expect(page.get_by_role("alert").filter(visible=True)).to_have_text("Select an image first.")
    expect(page.get_by_label("File")).to_be_focused()
    task.run()
    expect(task.error).to_have_text("Enter at least one line.")


def test_file_that_is_no_image_fails_at_its_item(demo, open_page, tmp_path):
    file = tmp_path / "notes.txt"
    page = open_page(demo)
    file.write_bytes(b"")
    page.get_by_label("File").set_input_files(file)
    expect(page.locator("#image-error")).to_have_text("notes.txt: The file is empty.")
    file.write_text("no image")
    page.get_by_label("File").set_input_files(file)
    expect(page.locator("#image-name")).to_have_text("notes.txt (the browser cannot show this file)")
    encoded = {"base64": base64.b64encode(b"no image").decode()}
    [error] = demo.post("/v1/ask", encoded, ["is it red?"])["errors"]
    task = ask(page)
    task.run("is it red?")
    expect(task.item_errors).to_have_text(error["message"])
