// Asks a fleet of blip-serve servers, and loses no answer when servers come and go.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));
export const SERVICE_CONFIG = path("../service_config.json");

const files = ["blip/v1/blip.proto", "google/rpc/status.proto", "google/rpc/error_details.proto"];
const types = protoLoader.loadSync(files, { includeDirs: [path("../../proto")], longs: Number, oneofs: true, defaults: true });
const { blip } = grpc.loadPackageDefinition(types);

const OPTIONS = {
  // A call is tried again only if its whole request is still here.
  "grpc.per_rpc_retry_buffer_size": 64 << 20,
  "grpc.retry_buffer_size": 256 << 20,
  // A server that was started again is found within seconds instead of two minutes.
  "grpc.max_reconnect_backoff_ms": 5000,
  // A connection whose other end is gone without a word is given up after 40 seconds.
  "grpc.keepalive_time_ms": 30000,
  "grpc.keepalive_timeout_ms": 10000,
};
const ATTEMPTS = 8;
const { UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED } = grpc.status;
const LOST = new Set([UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED]);

export class BlipClient {
  // `target` is a name of gRPC, such as dns:///blip-headless:50051 or ipv4:10.0.0.1:50051,10.0.0.2:50051.
  constructor(target, { apiKey, credentials, serviceConfig = SERVICE_CONFIG, options } = {}) {
    this.client = new blip.v1.BlipService(target, credentials ?? grpc.credentials.createInsecure(), {
      ...OPTIONS,
      "grpc.service_config": readFileSync(serviceConfig, "utf8"),
      ...options,
    });
    // grpc-js does not read waitForReady from the service config.
    this.metadata = new grpc.Metadata({ waitForReady: true });
    if (apiKey) this.metadata.set("x-api-key", apiKey);
  }

  close() {
    this.client.close();
  }

  // Asks inputs of { image: Buffer, questions: [string] }; yields { image, question, answer | error } as they become ready.
  //
  // The service config retries a call that has brought nothing yet. Here is what it cannot do: when a call ends early, only
  // what it left unanswered is asked again, of another server. Asking twice changes nothing but the cost.
  async *ask(inputs, timeoutS = 60) {
    const deadline = Date.now() + timeoutS * 1000;
    const missing = inputs.map(({ questions }) => new Set(questions.keys()));
    const open = () => missing.some((questions) => questions.size > 0);
    for (let attempt = 1; ; attempt++) {
      let waitMs = Math.random() * Math.min(5000, 100 * 2 ** attempt);
      const { request, pairs } = requestFor(inputs, missing);
      const call = this.client.ask(request, this.metadata, { deadline });
      try {
        for await (const { imageIndex, questionIndex, outcome, answer, error } of call) {
          const delayMs = outcome === "error" ? worthWaitingMs(error) : undefined;
          if (delayMs !== undefined && attempt < ATTEMPTS) {
            waitMs = Math.max(waitMs, delayMs);
            continue;
          }
          const [image, question] = pairs[imageIndex][questionIndex];
          missing[image].delete(question);
          yield { image, question, answer, error };
        }
      } catch (error) {
        const details = error.metadata?.get("grpc-status-details-bin")[0];
        // Without details it is no word of the server's: a connection, or a proxy's, has broken.
        const lost = LOST.has(error.code) ? 0 : undefined;
        const delayMs = details ? worthWaitingMs(types["google.rpc.Status"].deserialize(details)) : lost;
        if (open() && (delayMs === undefined || attempt === ATTEMPTS)) throw error;
        waitMs = Math.max(waitMs, delayMs ?? 0);
      } finally {
        call.cancel(); // for a caller who reads no further
      }
      if (!open()) return;
      await sleep(waitMs);
    }
  }
}

// The AskRequest for what is missing, and which pair of `inputs` each of its pairs is.
function requestFor(inputs, missing) {
  const request = { inputs: [] };
  const pairs = [];
  inputs.forEach(({ image, questions }, index) => {
    const wanted = [...missing[index]];
    if (wanted.length === 0) return;
    request.inputs.push({ image: { data: image }, questions: wanted.map((question) => ({ text: questions[question] })) });
    pairs.push(wanted.map((question) => [index, question]));
  });
  return { request, pairs };
}

// How long to wait before asking again, in milliseconds; undefined if that cannot help.
function worthWaitingMs(status) {
  for (const { type_url: name, value } of status.details) {
    if (name.endsWith("/google.rpc.RetryInfo")) {
      const { retryDelay } = types["google.rpc.RetryInfo"].deserialize(value);
      return retryDelay.seconds * 1000 + retryDelay.nanos / 1e6;
    }
  }
  return status.code === UNAVAILABLE ? 0 : undefined;
}
