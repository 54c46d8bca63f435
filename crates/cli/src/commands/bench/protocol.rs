//! The protocols of load tests.

/// How a load test sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// The gRPC method Ask of blip-serve
    Grpc,
    /// POST /v1/ask of blip-serve, with the JSON of the model card
    Card,
    /// POST to the URL itself, with {"image": base64, "questions": [...]}
    Json,
    /// POST to the URL itself, by version 2 of the KServe protocol
    Kserve,
}
