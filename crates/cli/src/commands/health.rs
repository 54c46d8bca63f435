//! `blip-serve health`.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use blip_server::{error::code_name, serve::exit::Exit};
use clap::Args;
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::connection::ConnectionArgs;

/// Check whether a running server is ready
///
/// The command prints the status. It exits with 0 for SERVING and with 1 for another status. It is
/// meant for health checks in container images without other programs.
#[derive(Args, Debug)]
pub(crate) struct HealthCommand {
    /// Name of a service; empty for the whole server
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    /// Time limit in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    timeout_s: u64,

    #[command(flatten)]
    connection: ConnectionArgs,
}

impl HealthCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let timeout = Duration::from_secs(self.timeout_s);
        let status = tokio::time::timeout(timeout, self.check()).await;
        let status = status.with_context(|| format!("no response within {} s", self.timeout_s))??;
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
            Err(status) => {
                anyhow::bail!("the server answered {}: {}", code_name(status.code()), status.message())
            }
        }
    }
}
