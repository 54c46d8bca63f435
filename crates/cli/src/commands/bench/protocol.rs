//! The protocols of load tests.

/// How a load test sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// BlipService/Ask
    Grpc,
    /// POST /v1/ask of this server, with the model card's JSON
    Card,
    /// {"image": base64, "questions": [...]} to the URL itself
    Json,
    /// The KServe protocol, version 2, to the URL itself
    Kserve,
}
