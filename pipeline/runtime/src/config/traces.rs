//! `[telemetry.traces]`

use reqwest::Url;
use serde::Deserialize;

/// Where traces go, and how many.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// The collector; empty: no traces.
    pub endpoint: String,
    /// Traces that begin a second, at most.
    pub per_second: f64,
    /// Spans that may wait for the collector.
    pub queue_spans_max: usize,
    /// Milliseconds.
    pub timeout_ms: u64,
}

impl TracesConfig {
    /// Where requests go; `None`: nowhere.
    ///
    /// # Errors
    /// That the endpoint is none.
    pub(crate) fn url(&self) -> Result<Option<Url>, String> {
        if self.endpoint.is_empty() {
            return Ok(None);
        }
        let wrong = || {
            let what = "http:// or https:// with a host, as http://127.0.0.1:4318, is taken";
            // Without what it may have of a name and password.
            let shown = self.endpoint.rsplit('@').next().unwrap_or_default();
            format!("telemetry.traces.endpoint = {shown:?}: {what}")
        };
        let mut url = Url::parse(&self.endpoint).map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(wrong());
        }
        // As OTLP has it: of a base, each signal has its path.
        if url.path() == "/" {
            url.set_path("/v1/traces");
        }
        Ok(Some(url))
    }

    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.url().err().into_iter().collect();
        let mut range = |key: &str, value: f64, low: f64, high: f64| {
            if !(low..=high).contains(&value) {
                problems.push(format!("telemetry.traces.{key} = {value}: {low} to {high} is taken"));
            }
        };
        range("per_second", self.per_second, 0.0, 1e6);
        range("queue_spans_max", self.queue_spans_max as f64, 1.0, 1e6);
        range("timeout_ms", self.timeout_ms as f64, 10.0, 600_000.0);
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(endpoint: &str) -> TracesConfig {
        TracesConfig { endpoint: endpoint.into(), per_second: 1.0, queue_spans_max: 10, timeout_ms: 100 }
    }

    #[test]
    fn an_endpoint_is_a_base_or_a_whole_address() {
        let url = |endpoint| config(endpoint).url().unwrap().map(|url| url.to_string());
        assert_eq!(url(""), None);
        assert_eq!(url("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("https://otel.example/otlp/v1/traces").unwrap(), "https://otel.example/otlp/v1/traces");
        for wrong in ["127.0.0.1:4318", "grpc://x", "http://"] {
            assert!(config(wrong).problems()[0].contains("telemetry.traces.endpoint"), "{wrong}");
        }
    }

    #[test]
    fn every_problem_is_told() {
        let config = TracesConfig { endpoint: "x".into(), per_second: f64::NAN, queue_spans_max: 0, timeout_ms: 1 };
        assert_eq!(config.problems().len(), 4);
    }
}
