//! The capture stage as a process: INGEST and CONTROL in, READINGS out.

fn main() -> std::process::ExitCode {
    eddy_runtime::app::run::<eddy_capture::Capture>()
}
