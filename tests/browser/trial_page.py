"""The page at `/`, as a user operates it."""

from playwright.sync_api import expect

QUESTIONS = [
    "how many things are in the image?",
    "what shape is to the left of the rectangle?",
    "is the red triangle to the right of the green shape?",
]


class Task:
    """The section of a task."""

    def __init__(self, page, title, texts_label, button):
        self.section = page.get_by_role("region", name=title)
        self.texts = self.section.get_by_label(texts_label)
        self.submit = self.section.get_by_role("button", name=button, exact=True)
        self.stop = self.section.get_by_role("button", name="Stop")
        self.status = self.section.get_by_role("status")
        self.error = self.section.locator("> .error")
        self.items = self.section.locator(".results > li")
        self.results = self.items.locator(".result")
        self.item_errors = self.items.locator(".error")

    def run(self, *texts):
        """Submits texts and waits until each has a result or an error."""
        self.texts.fill("\n".join(texts))
        self.submit.click()
        expect(self.stop).to_be_disabled()

    def scores(self):
        """Returns the score of each item as text."""
        return self.items.locator(".body > .score").all_inner_texts()


def ask(page):
    return Task(page, "Ask questions", "Questions, one on each line", "Ask")


def caption(page):
    return Task(page, "Describe", "Beginnings of captions", "Describe")


def match(page):
    return Task(page, "Compare with texts", "Texts, one on each line", "Compare")


def choose(page, file):
    """Chooses an image file and waits until the page shows it."""
    page.get_by_label("File").set_input_files(file)
    expect(page.get_by_alt_text("The selected image")).to_be_visible()


def percent(share):
    return f"{100 * share:.1f} %"


def explain(page):
    """Selects heat maps for the next answers."""
    page.get_by_label("Where the model looked").check()
