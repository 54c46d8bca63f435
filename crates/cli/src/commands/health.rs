//! `blip-serve health`.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use blip_server::{config::units::parse_seconds, serve::exit::Exit};
use clap::Args;
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::connection::{ConnectionArgs, describe_status};

/// Check whether a running server is ready
///
/// The command prints the status. It exits with 0 for SERVING and with 1 for another status. It is
/// meant for health checks in container images without other programs.
#[derive(Args, Debug)]
pub(crate) struct HealthCommand {
    /// Name of a service; empty for the whole server
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    /// Time limit in seconds, or with a unit such as 500ms
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    timeout_s: Duration,

    #[command(flatten)]
    connection: ConnectionArgs,
}

impl HealthCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let status = tokio::time::timeout(self.timeout_s, self.check()).await;
        let limit = self.timeout_s.as_secs_f64();
        let status = status.with_context(|| format!("no response within {limit} s"))??;
        writeln!(std::io::stdout(), "{}", status.as_str_name()).context("cannot print")?;
        Ok(if status == ServingStatus::Serving { Exit::Clean } else { Exit::Failed })
    }

    async fn check(&self) -> anyhow::Result<ServingStatus> {
        let channel = self.connection.connect().await?;
        let mut request = Request::new(HealthCheckRequest { service: self.service.clone() });
        self.connection.sign(&mut request)?;
        match HealthClient::new(channel).check(request).await {
            Ok(response) => Ok(response.into_inner().status()),
            Err(status) if status.code() == Code::NotFound => Ok(ServingStatus::ServiceUnknown),
            Err(status) => anyhow::bail!(describe_status(&status)),
        }
    }
}
