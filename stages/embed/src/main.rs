//! The embed stage as a program.

fn main() -> std::process::ExitCode {
    eddy_runtime::app::run::<eddy_embed::Embed>()
}
