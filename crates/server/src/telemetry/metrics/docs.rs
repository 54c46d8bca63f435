//! Generates `docs/reference/metrics.md` from the tables of metrics.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use scheduler::{MetricKind, MetricSpec};

    use crate::telemetry::metrics::recorder::{all, buckets};

    /// The stages of an answer, each with its description.
    const STAGES: [(&str, &str); 10] = [
        ("fetch", "fetch the image by its URL"),
        (
            "preprocess",
            "hash the image file and prepare its pixels; includes `image_decode` and `image_scale` unless the \
             pixels are cached",
        ),
        ("image_decode", "decode the image file to RGB, with the wait for memory"),
        (
            "image_scale",
            "scale RGB to the model's input size (normalization runs on the device, in `vision`)",
        ),
        ("queue", "wait for a batch"),
        ("vision", "encode the image"),
        ("text", "encode the question"),
        ("decode", "generate the answer, token by token"),
        (
            "total",
            "from the arrival of the request to the formatted answer, waits between stages included; a slow \
             client delays the formatting, which counts, too",
        ),
        ("write", "from the engine's answer to the moment at which HTTP takes it, see below"),
    ];

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");

    /// Writes the table row of a metric. The scheduler's metrics also have the label `model`.
    fn row(text: &mut String, metric: &MetricSpec) {
        let has_model = scheduler::METRICS.iter().any(|known| known.name == metric.name);
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let help = metric.help.replace('|', "\\|");
        let labels: Vec<&str> = has_model
            .then_some("model")
            .into_iter()
            .chain(Some(metric.labels))
            .filter(|label| !label.is_empty())
            .collect();
        let labels = match labels.join(", ").as_str() {
            "" => String::new(),
            labels => format!("`{}`", labels.replace('|', "\\|").replace(", ", "`, `")),
        };
        let _ = writeln!(text, "| `{}` | {kind} | {labels} | {help} |", metric.name);
    }

    const INTRODUCTION: &str = "\
<!-- Generated from the tables of metrics: UPDATE_DOCS=1 cargo test -p server committed -->
# Metrics

`GET /metrics` on `--metrics-listen` (default 127.0.0.1:9090) returns the metrics in Prometheus's
text format. Times are in seconds and sizes in bytes. Every label has a bounded set of values.
Metrics whose names begin with `process_` (CPU time, memory, file descriptors, threads, start time)
are included.

The same listener has these endpoints:

| endpoint | meaning |
|---|---|
| `/livez` | 200 while the process responds |
| `/readyz` | 200 while the server should receive requests, otherwise 503 with the reason |
| `/healthz` | 200 once the models are loaded, before that 503 |
| `GET /log-filter` | the log filter |
| `PUT /log-filter` | changes the log filter, see [tracing](../operations/tracing.md#logs) |

`grpc.health.v1` reports the same as `/readyz`, with one exception. While the queues of all models
are full, the server is not ready by `/readyz`, but `SERVING` by `grpc.health.v1`. It then rejects
further questions one by one.

Metrics of a model have its name as the label `model`. Gauges of a model are read from the loaded
models at each scrape, so they do not include replaced and unloaded models. Counters of such models
remain.

Histograms have no exemplars, because the library (`metrics-exporter-prometheus` 0.18.3) writes
none. The log has both the request id and the trace id of a slow request.

GPU memory is read every five seconds. This was tested with a fake CUDA allocator, not yet on a GPU.

| metric | kind | labels | meaning |
|---|---|---|---|
";

    const STAGES_INTRODUCTION: &str = "
## Stages of an answer

`blip_stage_seconds` has one value of each stage for each answer. It is zero for a stage with no
work.

| stage | meaning |
|---|---|
";

    const WRITE_STAGE: &str = "
HTTP takes one part of a response ahead. It takes the next part when the flow control of the client
allows it. These waits therefore count in `write`:

- later answers of a client that reads slowly
- answers that wait for others of their request, by order or in one JSON response

Data that HTTP has taken and that is on its way through the socket does not count.
";

    fn documentation() -> String {
        let mut text = INTRODUCTION.to_owned();
        all().for_each(|metric| row(&mut text, metric));
        text += STAGES_INTRODUCTION;
        for (stage, meaning) in STAGES {
            let _ = writeln!(text, "| `{stage}` | {meaning} |");
        }
        text += WRITE_STAGE;
        text += "\n## Buckets\n\n| histogram | upper bounds |\n|---|---|\n";
        for metric in all().filter(|metric| metric.kind == MetricKind::Histogram) {
            let bounds: Vec<_> = buckets(metric.name).iter().map(f64::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, bounds.join(", "));
        }
        text
    }

    #[test]
    fn every_stage_has_a_description() {
        let stage = all().find(|metric| metric.name == "blip_stage_seconds").unwrap();
        assert_eq!(stage.labels, format!("stage={}", STAGES.map(|(stage, _)| stage).join("|")));
    }

    #[test]
    fn committed_documentation_equals_the_tables() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PATH, documentation()).unwrap();
        }
        let committed = std::fs::read_to_string(PATH).unwrap_or_default();
        assert_eq!(committed, documentation(), "run UPDATE_DOCS=1 cargo test -p server committed");
    }
}
