//! `blip-serve bench`.

mod precisions;
mod grpc;
mod json;
mod workload_args;
mod protocol;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::Context as _;
use blip_server::{config::SettingsError, serve::exit::Exit};
use clap::{Args, ValueHint};
use load_generator::{
    ArrivalProcess, LoadPlan, Recording, Report, Target, Workload, arrival_stream, compare_reports,
    plot_reports, poisson_arrivals, run_closed_loop, run_open_loop,
};
use tokio::time::Instant;

use crate::{
    commands::bench::{
        grpc::GrpcTarget, json::JsonTarget, precisions::PrecisionArgs, protocol::Protocol,
        workload_args::WorkloadArgs,
    },
    connection::ConnectionArgs,
    output::print,
};

/// Measure latency and throughput of a server under load
///
/// Latency is measured from the time at which a request is due. It includes the delay of a client
/// that a slow server blocks. The same options generate the same requests.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve bench --clients 64                          64 clients, each with one request in flight
  blip-serve bench --rate 200 --reuse 0.8 --skew 1       200 requests/s, most with known images
  blip-serve bench --rate 200 --output a.json --plot a.svg
  blip-serve bench --compare a.json b.json
  blip-serve bench --precisions --model Salesforce/blip-vqa-base   number formats on this machine")]
pub(crate) struct BenchCommand {
    /// Protocol of the requests
    ///
    /// With json, the response is {"answers": [...]}. With kserve, the inputs are image and
    /// question, with one row for each question.
    #[arg(long, value_enum, default_value_t = Protocol::Grpc)]
    protocol: Protocol,

    #[command(flatten)]
    workload: WorkloadArgs,

    /// Number of connections, which requests use in turn
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,

    /// Name of this run in its report
    #[arg(long, value_name = "TEXT", default_value = "blip-serve")]
    name: String,

    /// Output file of the report, as JSON
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<std::path::PathBuf>,

    /// Output file of a plot of latency and throughput, as SVG
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    plot: Option<std::path::PathBuf>,

    /// Compare reports side by side instead of sending requests
    #[arg(long, value_name = "REPORT.json", num_args = 2.., value_hint = ValueHint::FilePath)]
    compare: Option<Vec<std::path::PathBuf>>,

    #[command(flatten)]
    connection: ConnectionArgs,

    #[command(flatten)]
    precisions: PrecisionArgs,
}

impl BenchCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        self.precisions.check()?;
        if self.precisions.precisions {
            return self.compare_precisions(variables).await;
        }
        let reports = match &self.compare {
            Some(paths) => {
                let reports =
                    paths.iter().map(|path| read_report(path)).collect::<anyhow::Result<Vec<_>>>()?;
                print(&compare_reports(&reports))?;
                reports
            }
            None => {
                let report = self.measure().await?;
                print(&report.to_string())?;
                self.write(|| serde_json::to_string_pretty(&report))?;
                vec![report]
            }
        };
        if let Some(path) = &self.plot {
            plot_reports(&reports, path)?;
        }
        let answered = reports.iter().all(|report| report.answered > 0);
        Ok(if answered { Exit::Clean } else { Exit::Failed })
    }

    async fn compare_precisions(&self, variables: &[String]) -> anyhow::Result<Exit> {
        if self.connection.is_server_named() {
            let message = "--precisions loads the model in this process: omit --server".to_owned();
            return Err(SettingsError::Conflict(message).into());
        }
        let (workload, clients) = (self.workload.workload()?, self.workload.clients());
        let Some(comparison) = self.precisions.run(workload, clients.get(), variables).await? else {
            return Ok(Exit::Clean);
        };
        print(&comparison.to_string())?;
        self.write(|| comparison.to_json())?;
        Ok(if comparison.has_reference() { Exit::Clean } else { Exit::Failed })
    }

    /// Writes a report to the output file, if there is one.
    fn write(&self, report: impl FnOnce() -> serde_json::Result<String>) -> anyhow::Result<()> {
        let Some(path) = &self.output else { return Ok(()) };
        let text = report().context("cannot write the report")?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    async fn measure(&self) -> anyhow::Result<Report> {
        let workload = self.workload.workload()?;
        let (timeout, connections) = (self.workload.timeout(), usize::from(self.connections));
        #[expect(clippy::disallowed_types, reason = "a report states the date of its run")]
        let start = httpdate::fmt_http_date(std::time::SystemTime::now());
        let (arrivals, plan, seed) = (self.workload.arrivals(), self.workload.plan(), self.workload.seed);
        let recording = match self.protocol {
            Protocol::Grpc => {
                let target = GrpcTarget::connect(&self.connection, connections, timeout).await?;
                measure(target, workload, arrivals, &plan, seed).await?
            }
            Protocol::Card | Protocol::Json | Protocol::Kserve => {
                let target = JsonTarget::new(self.protocol, &self.connection, connections, timeout)?;
                measure(target, workload, arrivals, &plan, seed).await?
            }
        };
        let mut options: BTreeMap<String, String> = self.workload.describe();
        options.insert("protocol".to_owned(), format!("{:?}", self.protocol).to_lowercase());
        options.insert("connections".to_owned(), self.connections.to_string());
        Ok(Report::new(self.name.clone(), options, start, plan.measured, &recording))
    }
}

async fn measure<T: Target>(
    target: T,
    workload: Workload,
    arrivals: ArrivalProcess,
    plan: &LoadPlan,
    seed: u64,
) -> anyhow::Result<Recording> {
    let target = Arc::new(target);
    Ok(match arrivals {
        ArrivalProcess::ClosedLoop { clients } => {
            run_closed_loop(target, workload, clients.get(), plan).await
        }
        ArrivalProcess::Poisson { requests_per_s } => {
            let times = poisson_arrivals(requests_per_s, seed);
            let arrivals = arrival_stream(Instant::now(), times).context("cannot start the pacing thread")?;
            run_open_loop(target, workload, arrivals, plan).await
        }
    })
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("invalid report of blip-serve bench: {}", path.display()))
}
