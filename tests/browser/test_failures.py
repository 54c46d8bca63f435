"""Errors, cancellation and API keys on the page at `/`."""

import json

import pytest
import requests
from playwright.sync_api import expect
from trial_page import QUESTIONS, ask, choose, match

KEY = "correct-horse-battery"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.png", "ftp://images.invalid/a.png", "no url"])
def test_error_of_a_url_is_shown_at_each_item(demo, open_page, url):
    page = open_page(demo)
    page.get_by_label("URL").fill(url)
    task = ask(page)
    task.run(*QUESTIONS)
    errors = demo.post("/v1/ask", {"url": url}, QUESTIONS)["errors"]
    assert len(errors) == len(QUESTIONS)
    expect(task.item_errors).to_have_text([error["message"] for error in errors])
    expect(task.error).to_be_hidden()


def test_failed_item_hides_no_other(demo, open_page, image_file, image):
    page = open_page(demo)
    task = ask(page)
    choose(page, image_file)
    texts = [QUESTIONS[0], "is it red? " * 600, QUESTIONS[1]]
    task.run(*texts)
    response = demo.post("/v1/ask", image, [text.strip() for text in texts])
    [first, failed, last] = response["captions"][0]["image_results"]
    assert failed is None
    expect(task.results.nth(0)).to_have_text(first)
    expect(task.results.nth(2)).to_have_text(last)
    expect(task.item_errors.filter(visible=True)).to_have_text(response["errors"][0]["message"])
    expect(task.status).to_have_text("3 of 3 done.")


def test_rejected_request_shows_its_problem(start, open_page, image_file):
    page = open_page(start("--max-beams", "2"))
    task = ask(page)
    choose(page, image_file)
    task.section.get_by_label("Alternative answers").select_option("4")
    task.run(*QUESTIONS)
    expect(task.error).to_have_text("generation.num_answers out of range: 5, 1 to 2 allowed")
    expect(task.item_errors).to_have_text(["No result."] * len(QUESTIONS))
    task.section.get_by_label("Alternative answers").select_option("1")
    task.run(*QUESTIONS)
    expect(task.error).to_be_hidden()
    expect(task.status).to_have_text("3 of 3 done.")


def test_lost_server_is_reported(start, open_page, image_file):
    server = start()
    page = open_page(server)
    task = ask(page)
    choose(page, image_file)
    expect(task.submit).to_be_visible()
    # A connection that ends has no event `end`.
    page.route("**/v1/ask", lambda route: route.fulfill(content_type="text/event-stream", body=": comment\n\n"))
    task.run("is it red?")
    expect(task.error).to_have_text("The connection ended before the last result.")
    page.unroute("**/v1/ask")
    page.route("**/v1/ask", lambda route: route.abort("connectionrefused"))
    task.run("is it red?")
    expect(task.error).to_have_text("The server cannot be reached.")


def test_stop_cancels_the_request(demo, open_page, image_file):
    page = open_page(demo)
    task = ask(page)
    choose(page, image_file)
    held = []
    page.route("**/v1/ask", lambda route: held.append(route))
    task.texts.fill("\n".join(QUESTIONS))
    with page.expect_event("requestfailed") as cancelled:
        with page.expect_request("**/v1/ask"):
            task.submit.click()
        expect(task.status).to_have_text("0 of 3 done.")
        task.stop.click()
    assert cancelled.value.url == f"{demo.http}/v1/ask"
    expect(task.item_errors).to_have_text(["Stopped."] * 3)
    expect(task.submit).to_be_focused()
    expect(task.error).to_be_hidden()
    page.unroute("**/v1/ask")
    task.run(QUESTIONS[0])
    expect(task.status).to_have_text("1 of 1 done.")


def test_key_is_asked_for_and_sent_in_the_header(start, open_page, image_file):
    server = start("--auth-keys", KEY)
    page = open_page(server)
    expect(page.locator("#server-error")).to_have_text("missing api key")
    expect(ask(page).submit).to_be_hidden()
    key = page.get_by_label("Key", exact=True)
    assert key.get_attribute("type") == "password"
    key.fill("wrong-horse")
    key.press("Enter")
    expect(page.locator("#server-error")).to_have_text("unknown api key")
    key.fill(KEY)
    page.get_by_role("button", name="Use key").click()
    expect(page.locator("#server-error")).to_be_hidden()
    choose(page, image_file)
    task = ask(page)
    task.run(QUESTIONS[0])
    expect(task.results).to_have_text("5")
    # The key survives a reload, and no request has it anywhere but in the header.
    page.reload()
    expect(task.submit).to_be_visible()
    sent = [request for request in page.requests if "/v1/" in request.url]
    assert sent[-1].headers["authorization"] == f"Bearer {KEY}"
    for request in page.requests:
        others = {name: value for name, value in request.headers.items() if name != "authorization"}
        assert KEY not in request.url and KEY not in json.dumps(others) and KEY not in (request.post_data or "")
    assert page.evaluate("[localStorage.length, document.cookie, location.search]") == [0, "", ""]
    # A new tab has no key.
    other = open_page(server)
    expect(other.locator("#server-error")).to_have_text("missing api key")


def test_key_that_no_header_can_carry_is_refused(start, open_page):
    page = open_page(start("--auth-keys", KEY))
    expect(page.locator("#server-error")).to_have_text("missing api key")
    page.get_by_label("Key", exact=True).fill("schlüssel")
    page.get_by_role("button", name="Use key").click()
    expect(page.locator("#server-error")).to_contain_text("characters that the server cannot receive")


def test_list_of_models_can_be_loaded_again(demo, open_page):
    page = open_page(demo)
    expect(ask(page).submit).to_be_visible()
    document = {"title": "model loading", "status": 503, "detail": "the model is loading", "retry_after_s": 1.5}
    problem = {"status": 503, "content_type": "application/problem+json", "body": json.dumps(document)}
    page.route("**/v1/models", lambda route: route.fulfill(**problem))
    page.reload()
    expect(page.locator("#server-error")).to_have_text("the model is loading. Try again in 2 s.")
    expect(ask(page).submit).to_be_hidden()
    page.unroute("**/v1/models")
    page.get_by_role("button", name="Load again").click()
    expect(ask(page).submit).to_be_visible()
    expect(page.get_by_role("button", name="Load again")).to_be_hidden()


def test_hostile_names_are_text(demo, open_page, image_file, tmp_path):
    hostile = "<img src=x onerror=window.hostile=1><script>window.hostile=1</script>"
    page = open_page(demo)
    expect(ask(page).submit).to_be_visible()
    models = requests.get(f"{demo.http}/v1/models", timeout=60).json()
    for model in models["models"]:
        model["name"] = f"{hostile}{model['task']}"
    page.route("**/v1/models", lambda route: route.fulfill(json=models))
    page.reload()
    expect(page.locator("#server-status")).to_contain_text(f"Models: {hostile}question_answering")
    file = tmp_path / "<img src=x onerror=alert(1)>.png"
    file.write_bytes(image_file.read_bytes())
    choose(page, file)
    expect(page.locator("#image-name")).to_have_text(file.name)
    for task in (ask(page), match(page)):
        task.run(hostile)
        expect(task.items.locator(".text")).to_have_text(hostile)
        # The server quotes the name of the model.
        expect(task.error).to_contain_text("unknown model")
        expect(task.error).to_contain_text("<img src=x")
    # An answer is text, too.
    answer = {"image": 0, "question": 0, "answer": hostile}
    body = f"event: answer\ndata: {json.dumps(answer)}\n\nevent: end\ndata: {{}}\n\n"
    page.route("**/v1/ask", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    ask(page).run("is it red?")
    expect(ask(page).results).to_have_text(hostile)
    assert page.locator("img").count() == 1 and page.locator("script").count() == 1
    assert page.evaluate("window.hostile") is None
