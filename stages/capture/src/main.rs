//! The capture stage as a process: INGEST, CONTROL, HTTP, MQTT and NATS requests in, READINGS out.

fn main() -> std::process::ExitCode {
    eddy_runtime::app::run_with::<eddy_capture::Capture, eddy_capture::Sources>()
}
