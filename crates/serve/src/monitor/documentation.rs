//! `docs/metrics.md`, generated from the tables.

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use scheduler::{Metric, MetricKind};

    use crate::monitor::recorder::{all, buckets};

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

    fn row(text: &mut String, metric: &Metric) {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let help = metric.help.replace('|', "\\|");
        let labels = match metric.labels {
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
             except that a full queue, which refuses further questions one by one, is not ready here and serving there.\n\n\
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
