"""Swagger UI at `/docs`: its examples get answers without changes."""

import json

import pytest
from playwright.sync_api import expect


@pytest.fixture
def operation(demo, open_page):
    """A function that opens an operation in Swagger UI."""
    page = open_page(demo, "/docs/", viewport={"width": 1200, "height": 1400})

    def operation(name):
        block = page.locator(f".opblock[id$='-{name}']")
        block.locator(".opblock-summary-control").click()
        expect(block.get_by_role("button", name="Execute")).to_be_visible()
        return block

    return operation


def execute(block):
    """Sends the request and returns its response as Swagger UI shows it."""
    with block.page.expect_response(lambda response: response.request.method == "POST") as received:
        block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response-col_status").last
    expect(status).to_contain_text(str(received.value.status))
    return received.value


def test_execute_answers_the_example_at_once(operation, screenshot):
    block = operation("ask")
    response = execute(block)
    assert response.status == 200
    [answers] = response.json()["captions"]
    assert answers["image_results"] == ["5", "ring", "yes"]
    shown = block.locator(".live-responses-table .highlight-code").first
    expect(shown).to_contain_text('"ring"')
    shown.scroll_into_view_if_needed()
    screenshot(block.page, "docs.png")


def test_execute_succeeds_for_other_operations(operation):
    for name in ("caption", "match", "embed", "create_chat_completion", "run_task"):
        response = execute(operation(name))
        assert response.status == 200 and "errors" not in response.json(), name


def use_form(block, image_file):
    """Selects the form and an image file for it."""
    block.get_by_label("Request content type").select_option("multipart/form-data")
    block.locator("[data-property-name=image] input[type=file]").set_input_files(image_file)


def test_form_is_answered_as_swagger_ui_sends_it(operation, image_file):
    block = operation("ask")
    use_form(block, image_file)
    response = execute(block)
    assert response.status == 200, response.text()
    assert response.json() == {"captions": [{"image_results": ["5", "ring"]}]}
    # By default, Swagger UI sends empty fields, too.
    command = block.locator(".curl-command .curl").inner_text()
    assert command.count("-F 'question=") == 2 and "-F 'model='" in command


def test_form_with_a_json_list_is_answered(operation, image_file):
    block = operation("ask")
    use_form(block, image_file)
    # The only field for files is the image.
    assert block.locator("input[type=file]").count() == 1
    questions = ["how many things are in the image?", "what colour is the triangle, if any?"]
    block.locator("[data-property-name=questions] input[type=text]").fill(json.dumps(questions))
    remove = block.locator("[data-property-name=question] .json-schema-form-item-remove")
    for count in (1, 0):
        remove.first.click()
        expect(remove).to_have_count(count)
    response = execute(block)
    assert response.status == 200, response.text()
    assert len(response.json()["captions"][0]["image_results"]) == len(questions)


def test_form_of_match_and_caption_is_answered(operation, image_file):
    for name, field in (("match", "matches"), ("caption", "captions")):
        block = operation(name)
        use_form(block, image_file)
        response = execute(block)
        assert response.status == 200, response.text()
        assert response.json()[field][0]["image_results"][0] is not None


def test_each_error_response_shows_its_example(operation):
    block = operation("ask")
    row = block.locator(".responses-table:not(.live-responses-table) tr.response[data-code='413']")
    for reason in ("MESSAGE_TOO_LARGE", "BURST_TOO_LARGE"):
        row.locator(".examples-select-element").select_option(reason)
        expect(row.locator(".highlight-code")).to_contain_text(f'"reason": "{reason}"')
