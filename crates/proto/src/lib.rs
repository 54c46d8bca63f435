//! The public gRPC contract: messages and clients, generated from `proto/blip/v1/blip.proto`.
#![expect(clippy::allow_attributes_without_reason, reason = "generated")]

tonic::include_proto!("blip.v1");

/// The contract and all that it imports, as a serialized `FileDescriptorSet`, for server
/// reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
