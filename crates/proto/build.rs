//! Compiles the contract in `proto/` without `protoc`: to messages and clients in Rust, and to the
//! descriptor set that server reflection returns.

use std::{env, error::Error, fs, path::PathBuf};

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let proto = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto").canonicalize()?;
    println!("cargo::rerun-if-changed={}", proto.display());
    // The set includes the error details, so that a client without generated code can read them.
    let files =
        ["blip/v1/blip.proto", "google/rpc/error_details.proto", "inference/open_inference_grpc.proto"];
    let mut compiler = protox::Compiler::new([&proto])?;
    let compiled = compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let descriptors = compiled.file_descriptor_set();
    let path = out.join("descriptors.bin");
    fs::write(&path, descriptors.encode_to_vec())?;
    println!("cargo::metadata=descriptors={}", path.display());
    tonic_prost_build::configure()
        .build_server(false)
        // An image stays a slice of the buffer that it arrived in.
        .bytes(".blip.v1")
        .bytes(".inference")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .compile_fds(descriptors)?;
    Ok(())
}
