//! Asks several servers every question about every image.

#![expect(clippy::print_stdout, reason = "prints the answers")]

mod client;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use clap::Parser;
use client::{BlipClient, Input, proto::ask_response::Outcome};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

#[derive(Debug, Parser)]
struct Arguments {
    /// URL of a server, for example http://10.0.0.1:50051 or https:// for TLS; can be repeated
    #[arg(long = "server", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    servers: Vec<String>,
    #[arg(long = "image", value_name = "FILE", required = true)]
    images: Vec<PathBuf>,
    #[arg(long = "question", value_name = "TEXT", required = true)]
    questions: Vec<String>,
    #[arg(long, default_value_t = 60.0)]
    timeout_s: f64,
    /// API key
    #[arg(long, env = "BLIP_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Trusted certificate authorities, in PEM [default: public authorities]
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Client certificate, for a server that requires one
    #[arg(long, requires = "key_file")]
    cert_file: Option<PathBuf>,
    #[arg(long, requires = "cert_file")]
    key_file: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let failed = runtime.block_on(ask(&arguments))?;
    anyhow::ensure!(failed == 0, "{failed} questions failed");
    Ok(())
}

/// Prints a line for each question and returns the number of failed ones.
async fn ask(arguments: &Arguments) -> anyhow::Result<usize> {
    let endpoints =
        arguments.servers.iter().map(|server| endpoint(arguments, server)).collect::<Result<Vec<_>, _>>()?;
    let mut client = BlipClient::new(endpoints, arguments.api_key.as_deref())?;
    let questions = &arguments.questions;
    let mut inputs = Vec::new();
    for image in &arguments.images {
        let data = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        inputs.push(Input { image: data, questions: questions.clone() });
    }
    let mut failed = 0;
    let timeout = Duration::from_secs_f64(arguments.timeout_s);
    let print = |image: usize, question: usize, outcome: Outcome| {
        let text = match outcome {
            Outcome::Answer(answer) => answer.text,
            Outcome::Error(error) => {
                failed += 1;
                format!("error: {}", error.message)
            }
        };
        let (image, question) = (arguments.images.get(image), questions.get(question));
        let name = image.map(|image| image.display().to_string()).unwrap_or_default();
        println!("{name}\t{}\t{text}", question.map(String::as_str).unwrap_or_default());
    };
    client.ask(&inputs, timeout, print).await?;
    Ok(failed)
}

fn endpoint(arguments: &Arguments, server: &str) -> anyhow::Result<Endpoint> {
    let endpoint =
        Endpoint::from_shared(server.to_owned()).with_context(|| format!("invalid URL {server:?}"))?;
    if !server.starts_with("https:") {
        return Ok(endpoint);
    }
    let mut tls = match &arguments.ca_file {
        Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(file)?)),
        None => ClientTlsConfig::new().with_webpki_roots(),
    };
    if let (Some(certificate), Some(key)) = (&arguments.cert_file, &arguments.key_file) {
        tls = tls.identity(Identity::from_pem(std::fs::read(certificate)?, std::fs::read(key)?));
    }
    Ok(endpoint.tls_config(tls)?)
}
