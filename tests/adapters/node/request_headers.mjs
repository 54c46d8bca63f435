// Prints the names of the headers that clients send, as JSON. Nothing is sent.
//
//   node request_headers.mjs
//
// The packages are in the folder that NODE_PATH names.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { InferenceClient } = await load("@huggingface/inference");
const { OpenAI } = await load("openai");

const names = new Set();
const capture = async (_url, options) => {
  new Headers(options.headers).forEach((_value, name) => names.add(name));
  return new Response("[]", { headers: { "content-type": "application/json" } });
};
const ignored = () => {};

const settings = { apiKey: "none", organization: "o", project: "p", baseURL: "http://localhost/v1" };
const openai = new OpenAI({ ...settings, dangerouslyAllowBrowser: true, maxRetries: 0, fetch: capture });
const request = { model: "demo", messages: [{ role: "user", content: "a" }] };
await openai.chat.completions.create(request, { timeout: 1000 }).catch(ignored);
await openai.chat.completions.stream(request).finalChatCompletion().catch(ignored);
await openai.embeddings.create({ model: "demo", input: "a" }).catch(ignored);
const options = { endpointUrl: "http://localhost", billTo: "b", fetch: capture };
const hub = new InferenceClient("none", options);
await hub.featureExtraction({ inputs: "a" }).catch(ignored);
await hub.chatCompletion(request).catch(ignored);
console.log(JSON.stringify([...names].sort()));
