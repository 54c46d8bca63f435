// hedge.mjs CLIENT CONFIG TARGET IMAGE: asks both servers of TARGET, says "ready", and at a line asks each once more.

import { once } from "node:events";
import { readFileSync } from "node:fs";

const [client, serviceConfig, target, image] = process.argv.slice(2);
const { BlipClient } = await import(client);
// Without keepalive, so that nothing but the hedge can help a call whose server has stopped.
const blip = new BlipClient(target, { serviceConfig, options: { "grpc.keepalive_time_ms": 2 ** 31 - 1 } });

async function ask(question) {
  for await (const { answer } of blip.ask([{ image: readFileSync(image), questions: [question] }], 240)) console.log(answer.text);
}

// More than enough for round robin to have a connection to each.
for (let turn = 0; turn < 20; turn++) await ask("is there a circle?");
console.log("ready");
await once(process.stdin, "data");
await ask("is there a square?");
await ask("is there a square?");
process.exit();
