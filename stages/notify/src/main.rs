//! The notify process: alerts in, webhooks and MQTT out.

fn main() -> std::process::ExitCode {
    eddy_notify::app::main()
}
