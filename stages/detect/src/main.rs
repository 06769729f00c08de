//! Detect as a process.

fn main() -> std::process::ExitCode {
    eddy_runtime::app::run::<eddy_detect::Detect>()
}
