// The page at `/`: which tasks the server has, and the API key.

import { listModels, storedKey, storeKey } from "./api.js";
import { byId, setText } from "./elements.js";
import { ImageInput } from "./image_input.js";
import { TaskForm } from "./task_form.js";

/** The tasks by their names in the list of models. */
const TASKS = {
  question_answering: { id: "ask", path: "v1/ask", needsTexts: true, request: askOptions },
  captioning: { id: "caption", path: "v1/caption", needsTexts: false, request: captionOptions },
  matching: { id: "match", path: "v1/match", needsTexts: true, request: () => ({}) },
};

function askOptions() {
  const alternatives = Number(byId("ask-alternatives").value);
  return {
    ...(alternatives > 0 ? { generation: { num_answers: alternatives + 1 } } : {}),
    ...(byId("ask-explain").checked ? { explain: true } : {}),
  };
}

function captionOptions() {
  // The server streams the tokens of a greedy search alone.
  return byId("caption-stream").checked ? { stream_tokens: true, generation: { num_beams: 1 } } : {};
}

const image = new ImageInput();
const forms = Object.entries(TASKS).map(([task, options]) => ({ task, form: new TaskForm(options, image) }));

/** Counts the requests for the list, so that a late response does not replace a newer one. */
let loads = 0;

async function showModels() {
  const load = ++loads;
  setText(byId("server-error"), "");
  let models = [];
  let failure = null;
  try {
    models = (await listModels()).filter(({ ready }) => ready);
  } catch (error) {
    failure = error;
  }
  if (load !== loads) {
    return;
  }
  for (const { task, form } of forms) {
    form.setModels(models.filter((model) => model.task === task));
  }
  byId("reload").hidden = models.length > 0;
  if (failure) {
    byId("server-status").textContent = "The list of models is not available.";
    setText(byId("server-error"), failure.message);
    if (failure.status === 401) {
      byId("key-section").open = true;
    }
  } else {
    const names = models.map(({ name }) => name).join(", ");
    byId("server-status").textContent = names === "" ? "No model is ready." : `Models: ${names}`;
  }
}

byId("key").value = storedKey();
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  try {
    storeKey(byId("key").value.trim());
  } catch (error) {
    setText(byId("server-error"), error.message);
    return;
  }
  showModels();
});
byId("reload").addEventListener("click", showModels);
showModels();
