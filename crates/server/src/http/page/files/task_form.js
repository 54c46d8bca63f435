// The form of a task: it sends one request at a time and shows each result when it arrives.

import { Problem, runTask } from "./api.js";
import { byId, setText } from "./elements.js";
import { ResultItem } from "./results.js";

/** The field of an error of one text, with its position. */
const TEXT_FIELD = /^inputs\.texts\[0\]\[(\d+)\]/;

/** The form of one task. */
export class TaskForm {
  #task;
  #image;
  #section;
  #running = null;

  /**
   * Creates the form of `task`:
   * - `id` of its section, and `path` of its route
   * - `request(texts)`: the fields of the request that depend on the task
   * - `needsTexts`: whether the request has at least one text
   */
  constructor(task, image) {
    this.#task = task;
    this.#image = image;
    this.#section = byId(task.id);
    const form = this.#find("form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#find(".stop").addEventListener("click", () => this.#running?.abort());
    this.#find(".texts").addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        form.requestSubmit();
      }
    });
  }

  /** Shows the form if there are `models` for the task. */
  setModels(models) {
    const select = this.#find(".model");
    const { value } = select;
    select.replaceChildren(...models.map(({ name }) => new Option(name, name)));
    if (models.some(({ name }) => name === value)) {
      select.value = value;
    }
    this.#section.hidden = models.length === 0;
  }

  #find(selector) {
    return this.#section.querySelector(selector);
  }

  async #submit() {
    const texts = this.#find(".texts").value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
    const error = this.#find("section > .error");
    setText(error, "");
    if (this.#task.needsTexts && texts.length === 0) {
      setText(error, "Enter at least one line.");
      this.#find(".texts").focus();
      return;
    }
    const image = this.#image.selected();
    if (image === null) {
      return;
    }
    this.#running?.abort();
    const running = new AbortController();
    this.#running = running;
    const list = this.#find(".results");
    list.replaceChildren();
    list.setAttribute("aria-busy", "true");
    const items = (texts.length === 0 ? [""] : texts).map((text) => new ResultItem(list, text));
    const inputs = { images: [image.source], ...(texts.length === 0 ? {} : { texts: [texts] }) };
    const request = { inputs, details: true, model: this.#find(".model").value, ...this.#task.request() };
    this.#find(".stop").disabled = false;
    this.#showProgress(items, "");
    try {
      await this.#receive(request, running.signal, items, image.preview);
      this.#end(running, items, "");
    } catch (failure) {
      this.#fail(failure, running, items);
    }
  }

  async #receive(request, signal, items, preview) {
    for await (const { name, data } of runTask(this.#task.path, request, signal)) {
      const item = items[data.question];
      if (name === "piece") {
        item.addPiece(data.piece);
      } else if (name === "answer") {
        item.complete(data, preview);
        this.#showProgress(items, "");
      }
    }
  }

  #fail(failure, running, items) {
    // A later request of this form replaced the list.
    if (this.#running !== running) {
      return;
    }
    if (failure.name === "AbortError") {
      items.filter((item) => !item.isDone).forEach((item) => item.fail("Stopped."));
      this.#end(running, items, "Stopped. ");
      return;
    }
    const message = failure instanceof Problem ? failure.message : `The page failed: ${failure.message}`;
    const failed = items[TEXT_FIELD.exec(failure.field ?? "")?.[1]];
    if (failed && !failed.isDone) {
      failed.fail(message);
    } else {
      setText(this.#find("section > .error"), message);
    }
    items.filter((item) => !item.isDone).forEach((item) => item.fail("No result."));
    this.#end(running, items, "Failed. ");
    if (failure.status === 401) {
      byId("key-section").open = true;
    }
  }

  #end(running, items, prefix) {
    if (this.#running !== running) {
      return;
    }
    this.#running = null;
    this.#find(".results").removeAttribute("aria-busy");
    this.#showProgress(items, prefix);
    const stop = this.#find(".stop");
    // A disabled button loses the focus.
    if (document.activeElement === stop) {
      this.#find("button[type=submit]").focus();
    }
    stop.disabled = true;
  }

  #showProgress(items, prefix) {
    const done = items.filter((item) => item.isDone).length;
    this.#find(".status").textContent = `${prefix}${done} of ${items.length} done.`;
  }
}
