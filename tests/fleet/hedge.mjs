// hedge.mjs CLIENT CONFIG TARGET IMAGE: asks both servers of TARGET, prints "ready" and waits for a
// line. Then it asks each server once more.

import { once } from "node:events";
import { readFileSync } from "node:fs";

const [client, serviceConfig, target, image] = process.argv.slice(2);
const { BlipClient } = await import(client);
// Keepalive is off, so that only hedging can complete a call to a stopped server.
const blip = new BlipClient(target, { serviceConfig, options: { "grpc.keepalive_time_ms": 2 ** 31 - 1 } });

async function ask(question) {
  for await (const { answer } of blip.ask([{ image: readFileSync(image), questions: [question] }], 240)) console.log(answer.text);
}

// After these calls, round robin has a connection to each server.
for (let turn = 0; turn < 20; turn++) await ask("is there a circle?");
console.log("ready");
await once(process.stdin, "data");
await ask("is there a square?");
await ask("is there a square?");
process.exit();
