// A client for several blip-serve servers. It loses no answer when servers start or stop.

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
  // gRPC retries a call only if its buffer holds the whole request.
  "grpc.per_rpc_retry_buffer_size": 64 << 20,
  "grpc.retry_buffer_size": 256 << 20,
  // Limits the delay until a restarted server is used. The default is two minutes.
  "grpc.max_reconnect_backoff_ms": 5000,
  // Closes a connection 40 seconds after its peer stops responding.
  "grpc.keepalive_time_ms": 30000,
  "grpc.keepalive_timeout_ms": 10000,
};
const ATTEMPTS = 8;
const { UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED } = grpc.status;
const CONNECTION_ERRORS = new Set([UNAVAILABLE, INTERNAL, UNKNOWN, CANCELLED]);

export class BlipClient {
  // `target` is a gRPC target name, for example dns:///blip-headless:50051 or
  // ipv4:10.0.0.1:50051,10.0.0.2:50051.
  constructor(target, { apiKey, credentials, serviceConfig = SERVICE_CONFIG, options } = {}) {
    this.client = new blip.v1.BlipService(target, credentials ?? grpc.credentials.createInsecure(), {
      ...OPTIONS,
      "grpc.service_config": readFileSync(serviceConfig, "utf8"),
      ...options,
    });
    // grpc-js ignores waitForReady in the service config.
    this.metadata = new grpc.Metadata({ waitForReady: true });
    if (apiKey) this.metadata.set("x-api-key", apiKey);
  }

  close() {
    this.client.close();
  }

  // Asks questions, given as { image: Buffer, questions: [string] } inputs. Yields
  // { image, question, answer | error } as results become ready.
  //
  // The service config retries calls without any response. This method handles calls that end
  // early: it sends their unanswered questions again. A repeated question has no side effects.
  async *ask(inputs, timeoutS = 60) {
    const deadline = Date.now() + timeoutS * 1000;
    const missing = inputs.map(({ questions }) => new Set(questions.keys()));
    const hasMissing = () => missing.some((questions) => questions.size > 0);
    for (let attempt = 1; ; attempt++) {
      let waitMs = Math.random() * Math.min(5000, 100 * 2 ** attempt);
      const { request, pairs } = requestFor(inputs, missing);
      const call = this.client.ask(request, this.metadata, { deadline });
      try {
        for await (const { imageIndex, questionIndex, outcome, answer, error } of call) {
          const delayMs = outcome === "error" ? retryDelayMs(error) : undefined;
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
        // An error without details does not come from the server: a connection was lost, perhaps
        // one of a proxy.
        const connectionDelayMs = CONNECTION_ERRORS.has(error.code) ? 0 : undefined;
        const delayMs = details ? retryDelayMs(types["google.rpc.Status"].deserialize(details)) : connectionDelayMs;
        if (hasMissing() && (delayMs === undefined || attempt === ATTEMPTS)) throw error;
        waitMs = Math.max(waitMs, delayMs ?? 0);
      } finally {
        call.cancel(); // for a caller that stops reading
      }
      if (!hasMissing()) return;
      await sleep(waitMs);
    }
  }
}

// Returns the AskRequest for the missing questions, and for each of its questions the index in
// `inputs`.
function requestFor(inputs, missing) {
  const request = { inputs: [] };
  const pairs = [];
  inputs.forEach(({ image, questions }, index) => {
    const openQuestions = [...missing[index]];
    if (openQuestions.length === 0) return;
    request.inputs.push({ image: { data: image }, questions: openQuestions.map((question) => ({ text: questions[question] })) });
    pairs.push(openQuestions.map((question) => [index, question]));
  });
  return { request, pairs };
}

// Returns the delay before a retry, in milliseconds, or undefined if a retry cannot succeed.
function retryDelayMs(status) {
  for (const { type_url: name, value } of status.details) {
    if (name.endsWith("/google.rpc.RetryInfo")) {
      const { retryDelay } = types["google.rpc.RetryInfo"].deserialize(value);
      return retryDelay.seconds * 1000 + retryDelay.nanos / 1e6;
    }
  }
  return status.code === UNAVAILABLE ? 0 : undefined;
}
