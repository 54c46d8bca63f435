//! `docs/metrics.md`, generated from the tables.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use scheduler::{Metric, MetricKind};

    use crate::monitor::recorder::{all, buckets};

    /// Each stage of an answer, and what it is.
    const STAGES: [(&str, &str); 10] = [
        ("fetch", "the image by its URL"),
        (
            "preprocess",
            "making the image ready: its digest, and, unless it is known again, the next two, which are parts of this",
        ),
        ("image_decode", "from the image's file to RGB, with the wait for memory to do it in"),
        (
            "image_scale",
            "from RGB to the model's size; pixels are normalised on the device, as part of `vision`",
        ),
        ("queue", "the wait for a batch"),
        ("vision", "encoding the image"),
        ("text", "encoding the question"),
        ("decode", "writing the answer, token by token"),
        (
            "total",
            "from the arrival of the request to the answer in words, waits between stages included; an answer is put into words when HTTP asks for it, so a slow caller is in here, too",
        ),
        (
            "write",
            "from the moment at which the engine had the answer to the one at which HTTP took it. HTTP takes one piece of a response \
             ahead, and the next when the caller's flow control has let it send that: the later answers of a caller who reads slowly \
             wait here. So do those that others of their request go out before or, in a JSON response, along with. What was taken and \
             is on its way through the socket is not in it",
        ),
    ];

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

    /// A row of the table; what a scheduler counts has its model's name on it.
    fn row(text: &mut String, metric: &Metric) {
        let of_model = scheduler::METRICS.iter().any(|of_scheduler| of_scheduler.name == metric.name);
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let help = metric.help.replace('|', "\\|");
        let labels: Vec<&str> = of_model
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

    fn documentation() -> String {
        let mut text = String::from(
            "<!-- Generated from the tables of metrics: UPDATE_DOCS=1 cargo test documentation -->\n\
             # Metrics\n\n\
             `GET /metrics` on `--metrics-listen` (127.0.0.1:9090 by default) gives them in Prometheus's text format. Times are \
             in seconds, sizes in bytes; every set of labels is bounded. Metrics whose names begin with `process_` (CPU \
             time, memory, file descriptors, threads, start time) come with them.\n\n\
             `/livez` says whether the process answers, `/readyz` whether it should be sent requests, `/healthz` whether \
             it has finished starting; 200 for yes, 503 for no, with the reason. `grpc.health.v1` says the same as `/readyz`, \
             except that a server whose queues are all full, which refuses further questions one by one, is not ready here and \
             serving there. The model's own name is on all that is counted for each model.\n\n\
             `GET /log-filter` gives the log filter, and `PUT /log-filter` changes it: see [tracing.md](tracing.md).\n\n\
             Histograms have no exemplars: the library for Prometheus's format (`metrics-exporter-prometheus` 0.18.3) writes none. From a \
             slow request to its trace the way is the log, which has both ids.\n\n\
             What a model waits for, runs and has (gauges with its name) is read at each scrape from the models that are there: \
             one that was replaced or taken away is in none of them. Its counters stay, as counters do.\n\n\
             The memory of GPUs is read every five seconds. It was tested with an allocator that pretends to be CUDA's, and has not been read \
             from a GPU yet.\n\n\
             | metric | kind | labels | what it says |\n|---|---|---|---|\n",
        );
        all().for_each(|metric| row(&mut text, metric));
        text += "\n## Stages of an answer\n\n`blip_stage_seconds` has one of each for every answer, of zero where there was \
                 nothing to do.\n\n| stage | what it is |\n|---|---|\n";
        for (stage, meaning) in STAGES {
            let _ = writeln!(text, "| `{stage}` | {meaning} |");
        }
        text += "\n## Buckets\n\n| histogram | upper bounds |\n|---|---|\n";
        for metric in all().filter(|metric| metric.kind == MetricKind::Histogram) {
            let bounds: Vec<_> = buckets(metric.name).iter().map(f64::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, bounds.join(", "));
        }
        text
    }

    #[test]
    fn every_stage_is_explained() {
        let stage = all().find(|metric| metric.name == "blip_stage_seconds").unwrap();
        assert_eq!(stage.labels, format!("stage={}", STAGES.map(|(stage, _)| stage).join("|")));
    }

    #[test]
    fn the_committed_documentation_equals_the_tables() {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PATH, documentation()).unwrap();
        }
        let committed = std::fs::read_to_string(PATH).unwrap_or_default();
        assert_eq!(committed, documentation(), "run UPDATE_DOCS=1 cargo test documentation");
    }
}
