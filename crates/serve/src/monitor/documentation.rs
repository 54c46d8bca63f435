//! `docs/metrics.md`, generated from the tables.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use scheduler::{Metric, MetricKind};

    use crate::monitor::recorder::{all, buckets};

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
             The memory of GPUs is read every five seconds. It was tested with an allocator that pretends to be CUDA's, and has not been read \
             from a GPU yet.\n\n\
             | metric | kind | labels | what it says |\n|---|---|---|---|\n",
        );
        all().for_each(|metric| row(&mut text, metric));
        text += "\n## Buckets\n\n| histogram | upper bounds |\n|---|---|\n";
        for metric in all().filter(|metric| metric.kind == MetricKind::Histogram) {
            let bounds: Vec<_> = buckets(metric.name).iter().map(f64::to_string).collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, bounds.join(", "));
        }
        text
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
