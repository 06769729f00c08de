//! Structured logs on standard error; every line carries its stage and shard, and the trace that is in hand.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{self, JsonFields, Writer},
    },
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, TelemetryConfig};

/// Starts logging for this process, which runs `shard` of `stage`.
///
/// # Errors
/// If the filter is not one, or logging was started before.
pub fn start(config: &TelemetryConfig, stage: &str, shard: u32) -> Result<(), String> {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    subscriber(config, stage, shard, ansi, std::io::stderr)?.try_init().map_err(|error| error.to_string())
}

/// The same for one thread, or for a test, to `writer`.
///
/// # Errors
/// If the filter is not one.
pub(crate) fn subscriber<W>(
    config: &TelemetryConfig,
    stage: &str,
    shard: u32,
    ansi: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, String>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&config.log).map_err(|error| {
        format!("telemetry.log = {:?}: {error}; info or eddy_runtime=debug,info is taken", config.log)
    })?;
    // Of a full disk nothing can be said on a standard error that lies there: by default that is tried, and panics.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    Ok(match config.log_format {
        LogFormat::Text => {
            let tag = format!("{stage}/{shard} ");
            Box::new(builder.with_ansi(ansi).event_format(Tagged { tag, inner: format::format() }).finish())
        }
        LogFormat::Json => {
            let tag = format!(
                "{{{},",
                serde_json::json!({ "shard": shard, "stage": stage }).to_string().trim_matches(['{', '}'])
            );
            let inner = format::format().json().flatten_event(true);
            Box::new(builder.fmt_fields(JsonFields::new()).event_format(Tagged { tag, inner }).finish())
        }
    })
}

/// Puts `tag` in front of each line; in front of a JSON object, in place of its opening brace.
struct Tagged<F> {
    tag: String,
    inner: F,
}

impl<S, N, F> FormatEvent<S, N> for Tagged<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str(&self.tag)?;
        if let Some(trace) = crate::trace::current::trace() {
            if self.tag.starts_with('{') {
                write!(writer, "\"trace_id\":\"{trace:032x}\",")?;
            } else {
                write!(writer, "trace_id={trace:032x} ")?;
            }
        }
        if !self.tag.starts_with('{') {
            return self.inner.format_event(context, writer, event);
        }
        let mut object = String::new();
        self.inner.format_event(context, Writer::new(&mut object), event)?;
        writer.write_str(object.trim_start_matches('{'))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::trace::current;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log_format: LogFormat, trace: Option<u128>) -> String {
        let config = TelemetryConfig {
            listen: String::new(),
            address_file: "".into(),
            log: "info".into(),
            log_format,
            stall_after_s: 30,
            traces: Default::default(),
        };
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(&config, "detect", 3, false, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("unseen");
            let warn = || tracing::warn!(stream = "READINGS", sequence = 7, "a \"gap\"");
            match trace {
                None => warn(),
                Some(_) => {
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(current::scope(async {
                        current::set(trace);
                        warn();
                    }))
                }
            }
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_of_text_begins_with_stage_and_shard() {
        let text = logged(LogFormat::Text, None);
        assert!(text.starts_with("detect/3 ") && text.lines().count() == 1, "{text}");
        assert!(text.contains("WARN") && text.contains("stream=\"READINGS\" sequence=7"), "{text}");
    }

    #[test]
    fn a_line_of_json_is_one_object_with_stage_and_shard() {
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, None)).unwrap();
        let of = |key: &str| line[key].clone();
        assert_eq!((of("stage"), of("shard"), of("sequence")), ("detect".into(), 3.into(), 7.into()));
        assert_eq!((of("level"), of("message")), ("WARN".into(), "a \"gap\"".into()));
    }

    #[test]
    fn a_line_names_the_trace_that_is_in_hand() {
        let text = logged(LogFormat::Text, Some(0xabc));
        assert!(text.starts_with(&format!("detect/3 trace_id={:032x} ", 0xabc)), "{text}");
        let line: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json, Some(0xabc))).unwrap();
        assert_eq!((&line["trace_id"], &line["sequence"]), (&format!("{:032x}", 0xabc).into(), &7.into()));
    }
}
