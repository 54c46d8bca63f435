// The results of a task: one list item for each text of the request.

import { messageOf } from "./api.js";
import { bar, element, percent, setText } from "./elements.js";
import { heatMap } from "./heat_map.js";

/** The stages of a result, by the name of their time in the response. */
const STAGES = {
  fetch_ms: "fetch",
  preprocess_ms: "decode and scale",
  queue_ms: "queue",
  vision_ms: "vision encoder",
  text_ms: "text encoder",
  decode_ms: "generation",
};

/** The result of one text. */
export class ResultItem {
  #item;
  #body;
  #result = element("p", "result");
  #error = element("p", "error");
  #isDone = false;

  /** Adds the item to `list`. `text` may be empty. */
  constructor(list, text) {
    this.#error.hidden = true;
    this.#body = element("div", "body", this.#result, this.#error);
    if (text !== "") {
      this.#body.prepend(element("p", "text", text));
    }
    this.#item = element("div", "item", this.#body);
    list.append(element("li", "", this.#item));
  }

  /** Whether the item has a result or an error. */
  get isDone() {
    return this.#isDone;
  }

  /** Appends text that was generated since the last piece. */
  addPiece(piece) {
    this.#result.append(piece);
  }

  /** Shows why the item has no result. */
  fail(message) {
    this.#isDone = true;
    setText(this.#error, message);
  }

  /** Shows the data of an event `answer`. `preview` is the URL of the image, or null. */
  complete(event, preview) {
    if (event.error) {
      this.fail(messageOf(event.error));
      return;
    }
    this.#isDone = true;
    const { answer, scores, details } = event;
    if (scores) {
      const cosine = element("span", "hint", ` cosine ${scores.cosine.toFixed(3)}`);
      this.#result.replaceChildren(score(scores.probability), cosine);
    } else {
      this.#result.textContent = answer;
    }
    if (details) {
      this.#body.append(score(probabilityOf(details)), ...alternatives(details.alternatives));
    }
    const timing = details?.timing ?? scores?.timing;
    if (timing) {
      this.#body.append(timingTable(timing));
    }
    const figure = heatMap(details?.attention, preview, answer);
    if (figure) {
      this.#item.append(figure);
    }
  }
}

/** Returns a probability: that among candidates, or that of the generated text. */
function probabilityOf({ probability, score }) {
  return probability ?? Math.exp(score);
}

function score(probability) {
  return element("span", "score", bar(probability, 1), percent(probability));
}

function alternatives(list = []) {
  if (list.length === 0) {
    return [];
  }
  const items = list.map((other) => element("li", "", `${other.text} `, score(probabilityOf(other))));
  return [element("ul", "alternatives", ...items)];
}

function timingTable(timing) {
  const rows = Object.entries(STAGES).map(([name, label]) => {
    const head = element("th", "", label);
    head.scope = "row";
    const time = element("td", "number", milliseconds(timing[name]));
    return element("tr", "", head, time, element("td", "", bar(timing[name], timing.total_ms)));
  });
  const facts = [`batch: ${counted(timing.batch_images, "image")}, ${counted(timing.batch_questions, "text")}`];
  if (timing.image_reused) {
    facts.push("image features from the cache");
  }
  if (timing.answer_shared) {
    facts.push("computed once for identical items");
  }
  if (timing.answer_reused) {
    facts.splice(0, 1, "answer from the cache");
  }
  return element(
    "details",
    "timing",
    element("summary", "", `Time: ${milliseconds(timing.total_ms)}`),
    element("table", "", ...rows),
    element("p", "hint", facts.join(", ")),
  );
}

function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function milliseconds(time) {
  return `${time.toFixed(1)} ms`;
}
