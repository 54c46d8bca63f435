// Requests to the server: the API key, problem documents and server-sent events.

const KEY = "blip-serve-api-key";

/** An error with a text for the user. */
export class Problem extends Error {
  /** `document` has the fields of a problem document, or is empty. */
  constructor(message, document = {}) {
    super(message);
    this.status = document.status;
    this.field = document.field;
  }
}

let currentKey = readKey();

/** Returns the API key of this tab, or an empty string. */
export function storedKey() {
  return currentKey;
}

/** Stores the API key until the tab is closed. An empty key removes it. */
export function storeKey(key) {
  if (/[^\x21-\x7e]/.test(key)) {
    throw new Problem("The key has characters that the server cannot receive in a header.");
  }
  currentKey = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // The browser stores nothing. The key is valid until the page is left.
  }
}

function readKey() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

/** Returns the models of the server. */
export async function listModels() {
  const response = await send("v1/models", {});
  return (await response.json()).models;
}

/**
 * Sends the request of a task, and yields its events: `{ name, data }`. The last one is `end`.
 *
 * `signal` cancels the request. The server then stops its work.
 */
export async function* runTask(path, request, signal) {
  const response = await send(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...request, stream: true }),
    signal,
  });
  for await (const event of eventsOf(response.body)) {
    if (event.name === "error") {
      throw new Problem(messageOf(event.data), event.data);
    }
    yield event;
    if (event.name === "end") {
      return;
    }
  }
  throw new Problem("The connection ended before the last result.");
}

/** Returns the message of a problem document or of a failed item. */
export function messageOf({ detail, message, retry_after_s: wait }) {
  const text = detail ?? message ?? "The server reports no reason.";
  return wait === undefined ? text : `${text}. Try again in ${Math.ceil(wait)} s.`;
}

async function send(path, options) {
  const authorization = currentKey === "" ? {} : { authorization: `Bearer ${currentKey}` };
  let response;
  try {
    // The path is relative, so that the page also works below the path of a proxy.
    response = await fetch(path, {
      ...options,
      headers: { ...options.headers, ...authorization },
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new Problem("The server cannot be reached.");
  }
  if (!response.ok) {
    throw await problemOf(response);
  }
  return response;
}

async function problemOf(response) {
  const fallback = { status: response.status, detail: `The server responded with HTTP status ${response.status}.` };
  // A proxy can respond with JSON of another form.
  const document = { ...fallback, ...(await response.json().catch(() => null)) };
  return new Problem(messageOf(document), document);
}

/** Yields the events in a body. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      yield* blocks.map(parseEvent).filter((event) => event !== null);
    }
  } finally {
    // The server stops its work if the page leaves the stream before its end.
    await reader.cancel().catch(() => {});
  }
}

/** Returns an event, or null for a comment. The server writes each field on one line. */
function parseEvent(block) {
  const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
  const [name, data] = [field("event"), field("data")];
  return name && data ? { name, data: JSON.parse(data) } : null;
}
