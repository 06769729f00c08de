//! The gRPC service: its messages are those of `eddy-schemas`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, proto) = ("../../schemas/proto", "eddy/region/v1/region.proto");
    println!("cargo:rerun-if-changed={folder}");
    let descriptors = protox::compile([proto], [folder])?;
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("region.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure()
        .extern_path(".eddy.region.v1", "::eddy_schemas::region::wire")
        .build_client(true)
        .build_server(true)
        .compile_fds(descriptors)?;
    Ok(())
}
