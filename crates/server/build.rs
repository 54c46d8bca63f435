//! Generates the gRPC service traits from the descriptors that the `proto` crate compiled.
//! The messages stay the types of that crate. The codec of this crate decodes requests and bounds
//! what a message can build.

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
    // The tests of this crate find LibTorch without `LD_LIBRARY_PATH`.
    if let Ok(folder) = env::var("DEP_BLIP_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{folder}");
    }
    Ok(())
}
