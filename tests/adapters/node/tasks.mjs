// Calls every task with @huggingface/inference, and prints the results as JSON.
//
//   node tasks.mjs URL IMAGE QUESTION TEXT...
//
// The package is in the folder that NODE_PATH names.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { InferenceClient } = await import(pathToFileURL(require.resolve("@huggingface/inference")));

const [url, file, question, ...texts] = process.argv.slice(2);
const image = new Blob([await readFile(file)], { type: "image/png" });
const bytes = Buffer.from(await image.arrayBuffer());
const client = new InferenceClient("none", { endpointUrl: url });

const answer = await client.visualQuestionAnswering({ inputs: { question, image } });
const caption = await client.imageToText({ data: image });
const labels = await client.zeroShotImageClassification({
  inputs: { image },
  parameters: { candidate_labels: texts, hypothesis_template: "{}" },
});
const features = await client.featureExtraction({ inputs: texts });
const content = [
  { type: "text", text: question },
  { type: "image_url", image_url: { url: `data:image/png;base64,${bytes.toString("base64")}` } },
];
const completion = await client.chatCompletion({ model: "demo", messages: [{ role: "user", content }] });
const chat = completion.choices[0].message.content;
const error = await client.visualQuestionAnswering({ inputs: { question: " ", image } }).then(
  () => "no error",
  (error) => error.message,
);
console.log(JSON.stringify({ answer, caption, labels, features, chat, error }));
