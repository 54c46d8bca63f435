//! `blip-serve bench`.

pub mod grpc;
pub mod json;
pub mod options;
pub mod protocol;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context as _;
use clap::{Args, ValueHint};
use load_generator::{ArrivalProcess, LoadPlan, Recording, Report, Target, Workload, arrival_stream,
    compare_reports, plot_reports, poisson_arrivals, run_closed_loop, run_open_loop};
use server::serve::exit::Exit;
use tokio::time::Instant;

use crate::{
    commands::bench::{grpc::GrpcTarget, json::JsonTarget, options::TrafficOptions, protocol::Protocol},
    connection::ConnectionOptions,
};

/// Ask a server many questions, and measure how it answers.
///
/// Latency is counted from the moment at which a request should have been sent, so that a server that keeps the client from
/// sending is not let off for it. The requests are the same ones whenever the options are.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve bench --clients 64                          64 clients, each asking again when it is answered
  blip-serve bench --rate 200 --reuse 0.8 --skew 1       200 requests a second, most of them about known images
  blip-serve bench --rate 200 --output a.json --plot a.svg
  blip-serve bench --compare a.json b.json")]
pub struct BenchCommand {
    /// How to ask: this server's gRPC, its POST /v1/ask, or a JSON server of one's own at the very URL of --server, plain
    /// ({\"image\": base64, \"questions\": [...]}, answered with {\"answers\": [...]}) or by the KServe protocol (inputs image
    /// and question, a row for each question)
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    protocol: Protocol,

    #[command(flatten)]
    connection: ConnectionOptions,

    #[command(flatten)]
    traffic: TrafficOptions,

    /// Connections, among which requests go round
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,

    /// What this run is called in its report
    #[arg(long, value_name = "TEXT", default_value = "blip-serve")]
    name: String,

    /// Write the report to this file, as JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<std::path::PathBuf>,

    /// Draw latency and throughput into this file, as SVG
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    plot: Option<std::path::PathBuf>,

    /// Ask nobody, but set reports side by side
    #[arg(long, value_name = "REPORT.json", num_args = 2.., value_hint = ValueHint::FilePath)]
    compare: Option<Vec<std::path::PathBuf>>,
}

impl BenchCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let reports = match &self.compare {
            Some(paths) => {
                let reports = paths.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
                print(&compare_reports(&reports))?;
                reports
            }
            None => {
                let report = self.measure().await?;
                print(&report.to_string())?;
                if let Some(path) = &self.output {
                    let text = serde_json::to_string_pretty(&report).context("cannot write the report")?;
                    let written = std::fs::write(path, text + "\n");
                    written.with_context(|| format!("cannot write {}", path.display()))?;
                }
                vec![report]
            }
        };
        if let Some(path) = &self.plot {
            plot_reports(&reports, path)?;
        }
        let answered = reports.iter().all(|report| report.answered > 0);
        Ok(if answered { Exit::Clean } else { Exit::Failed })
    }

    async fn measure(&self) -> anyhow::Result<Report> {
        let traffic = self.traffic.traffic()?;
        let limit = self.traffic.limit();
        let (connections, server) = (usize::from(self.connections), &self.connection.server);
        #[expect(clippy::disallowed_types, reason = "a report says on which day it was made")]
        let began = httpdate::fmt_http_date(std::time::SystemTime::now());
        let (pace, plan) = (self.traffic.pace(), self.traffic.plan());
        let recording = match self.protocol {
            Protocol::Grpc => {
                let target = GrpcTarget::connect(&self.connection, connections, limit).await?;
                measure(target, traffic, pace, &plan, self.traffic.seed).await?
            }
            Protocol::Card | Protocol::Json | Protocol::Kserve => {
                let target = JsonTarget::new(self.protocol, server, &self.connection, connections, limit)?;
                measure(target, traffic, pace, &plan, self.traffic.seed).await?
            }
        };
        let mut options: BTreeMap<String, String> = self.traffic.described();
        options.insert("protocol".to_owned(), format!("{:?}", self.protocol).to_lowercase());
        options.insert("connections".to_owned(), self.connections.to_string());
        Ok(Report::new(self.name.clone(), options, began, plan.measured, &recording))
    }
}

async fn measure<T: Target>(
    target: T,
    traffic: Workload,
    pace: ArrivalProcess,
    plan: &LoadPlan,
    seed: u64,
) -> anyhow::Result<Recording> {
    let target = Arc::new(target);
    Ok(match pace {
        ArrivalProcess::ClosedLoop { clients } => run_closed_loop(target, traffic, clients.get(), plan).await,
        ArrivalProcess::Poisson { requests_per_s } => {
            let moments = poisson_arrivals(requests_per_s, seed);
            let arrivals =
                arrival_stream(Instant::now(), moments).context("cannot start the pacing thread")?;
            run_open_loop(target, traffic, arrivals, plan).await
        }
    })
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is no report of blip-serve bench", path.display()))
}

fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    write!(std::io::stdout(), "{text}").context("cannot print")
}
