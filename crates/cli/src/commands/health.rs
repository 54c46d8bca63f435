//! `blip-serve health`.

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;
use clap::Args;
use server::{error::code_name, serve::exit::Exit};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::connection::ConnectionOptions;

/// Ask a running server whether it is ready to answer.
///
/// Prints SERVING and exits with 0, or prints what it is instead and exits with 1: for container engines, which can run no
/// other program in an image that holds only this one.
#[derive(Args, Debug)]
pub struct HealthCommand {
    #[command(flatten)]
    connection: ConnectionOptions,

    /// The service asked about; empty for the server as a whole
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,

    /// When to give up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    timeout_s: u64,
}

impl HealthCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let limit = Duration::from_secs(self.timeout_s);
        let answer = tokio::time::timeout(limit, self.ask()).await;
        let status = answer.with_context(|| format!("no answer within {} s", self.timeout_s))??;
        writeln!(std::io::stdout(), "{}", status.as_str_name()).context("cannot print")?;
        Ok(if status == ServingStatus::Serving { Exit::Clean } else { Exit::Failed })
    }

    async fn ask(&self) -> anyhow::Result<ServingStatus> {
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
