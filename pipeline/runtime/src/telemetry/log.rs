//! Structured logs on standard error.

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, TelemetryConfig};

/// Starts logging for this process.
///
/// # Errors
/// If the filter is not one, or logging was started before.
pub fn start(config: &TelemetryConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        format!("telemetry.log = {:?}: {error}; a filter like info or eddy_runtime=debug,info", config.log)
    })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
