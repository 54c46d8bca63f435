// Asks every question about every image:
//
//   npm ci && node ask.js --target ipv4:10.0.0.1:50051,10.0.0.2:50051 --image cat.jpg --question "is it asleep?"
//
// The API key is taken from BLIP_API_KEY.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import { BlipClient, SERVICE_CONFIG } from "./blip_client.js";

const { values: given } = parseArgs({
  options: {
    target: { type: "string", default: "dns:///localhost:50051" },
    image: { type: "string", multiple: true, default: [] },
    question: { type: "string", multiple: true, default: [] },
    "service-config": { type: "string", default: SERVICE_CONFIG }, // service_config_proxy.json behind a proxy
    "timeout-s": { type: "string", default: "60" },
    tls: { type: "boolean", default: false }, // trusting the public authorities or --ca-file
    "ca-file": { type: "string" },
    "cert-file": { type: "string" },
    "key-file": { type: "string" },
  },
});

const pem = (name) => (given[name] ? readFileSync(given[name]) : null);
const credentials = given.tls
  ? grpc.credentials.createSsl(pem("ca-file"), pem("key-file"), pem("cert-file"))
  : grpc.credentials.createInsecure();
const client = new BlipClient(given.target, {
  apiKey: process.env.BLIP_API_KEY,
  credentials,
  serviceConfig: given["service-config"],
});
const inputs = given.image.map((image) => ({ image: readFileSync(image), questions: given.question }));
try {
  for await (const { image, question, answer, error } of client.ask(inputs, Number(given["timeout-s"]))) {
    const told = error ? `error: ${error.message}` : answer.text;
    console.log([given.image[image], given.question[question], told].join("\t"));
    if (error) process.exitCode = 1;
  }
} catch (error) {
  console.error(`ask.js: ${grpc.status[error.code] ?? "error"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
