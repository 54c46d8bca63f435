//! Generates the gRPC service traits from the descriptors that the `proto` crate compiled. Its messages stay the types
//! of that crate. Requests are decoded by this crate's codec, which bounds what a message can build.

use std::{env, error::Error, fs};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = fs::read(env::var("DEP_BLIP_PROTO_DESCRIPTORS")?)?;
    tonic_prost_build::configure()
        .build_client(false)
        .codec_path("crate::grpc::codec::BoundedCodec")
        .extern_path(".blip.v1", "::proto")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(prost_types::FileDescriptorSet::decode(descriptors.as_slice())?)?;
    Ok(())
}
