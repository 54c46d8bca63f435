// Asks every question about every image.
//
//   npm ci
//   node ask.js --target ipv4:10.0.0.1:50051,10.0.0.2:50051 \
//     --image cat.jpg --question "is it asleep?"
//
// The environment variable BLIP_API_KEY holds the API key.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import { BlipClient, SERVICE_CONFIG } from "./blip_client.js";

const { values: options } = parseArgs({
  options: {
    target: { type: "string", default: "dns:///localhost:50051" },
    image: { type: "string", multiple: true, default: [] },
    question: { type: "string", multiple: true, default: [] },
    "service-config": { type: "string", default: SERVICE_CONFIG }, // behind a proxy: service_config_proxy.json
    "timeout-s": { type: "string", default: "60" },
    tls: { type: "boolean", default: false }, // trusts public authorities, or those of --ca-file
    "ca-file": { type: "string" },
    "cert-file": { type: "string" },
    "key-file": { type: "string" },
  },
});

const pem = (name) => (options[name] ? readFileSync(options[name]) : null);
const credentials = options.tls
  ? grpc.credentials.createSsl(pem("ca-file"), pem("key-file"), pem("cert-file"))
  : grpc.credentials.createInsecure();
const client = new BlipClient(options.target, {
  apiKey: process.env.BLIP_API_KEY,
  credentials,
  serviceConfig: options["service-config"],
});
const inputs = options.image.map((image) => ({ image: readFileSync(image), questions: options.question }));
try {
  for await (const { image, question, answer, error } of client.ask(inputs, Number(options["timeout-s"]))) {
    const text = error ? `error: ${error.message}` : answer.text;
    console.log([options.image[image], options.question[question], text].join("\t"));
    if (error) process.exitCode = 1;
  }
} catch (error) {
  console.error(`ask.js: ${grpc.status[error.code] ?? "error"}: ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  client.close();
}
