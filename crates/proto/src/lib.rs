//! The public gRPC contract: messages and clients, generated from `proto/blip/v1/blip.proto`.
#![expect(clippy::allow_attributes_without_reason, reason = "generated")]

tonic::include_proto!("blip.v1");

/// The Open Inference Protocol, generated from `proto/inference/open_inference_grpc.proto`.
#[expect(missing_docs, reason = "the file of another project")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// The contract and all that it imports, as a serialized `FileDescriptorSet`, for server
/// reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
