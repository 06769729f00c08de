//! The metrics as OpenMetrics 1.0, for scrapers that ask for it: what Prometheus' text says, with exemplars.
//!
//! The exporter writes Prometheus' text alone. Both formats have the same lines but for what is changed here: a counter's family is
//! named without `_total`, quotes in help texts are escaped, bounds of buckets are written as floats, no line is empty, and the end
//! is marked.

/// The type that scrapers ask for.
pub(super) const ASKED: &str = "application/openmetrics-text";
/// The type of the answer.
pub(super) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Rewrites `text`; `exemplar` may have one for a bucket of a histogram.
pub(super) fn of(text: &str, exemplar: impl Fn(&str, f64) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len() + 1_024);
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# ") {
            describe(&mut out, rest);
        } else {
            sample(&mut out, line, &exemplar);
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

/// `HELP name text` or `TYPE name type`.
fn describe(out: &mut String, rest: &str) {
    let mut words = rest.splitn(3, ' ');
    let (what, name, said) =
        (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // By the closed list of metrics all counters, and nothing else, end like that.
    let family = name.strip_suffix("_total").unwrap_or(name);
    out.push_str(&format!("# {what} {family} "));
    if what == "HELP" { out.push_str(&said.replace('"', "\\\"")) } else { out.push_str(said) }
}

fn sample(out: &mut String, line: &str, exemplar: &impl Fn(&str, f64) -> Option<String>) {
    let bucket = || {
        let (name, rest) = line.split_once("_bucket{")?;
        // The exporter writes the bound last, and no label of ours is called like that.
        let (labels, rest) = rest.rsplit_once("le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((name, labels, bound.parse::<f64>().ok()?, count))
    };
    let Some((name, labels, bound, count)) = bucket() else {
        out.push_str(line);
        return;
    };
    let written = if bound.is_infinite() { "+Inf".to_owned() } else { format!("{bound:?}") };
    out.push_str(&format!("{name}_bucket{{{labels}le=\"{written}\"}} {count}"));
    if let Some(exemplar) = exemplar(name, bound) {
        out.push_str(&exemplar);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_rewritten_and_the_rest_stays() {
        let text = "# HELP eddy_a_total Say \"x\"\n# TYPE eddy_a_total counter\neddy_a_total{stage=\"d\"} 1\n\n\
                    # HELP eddy_b_seconds B\n# TYPE eddy_b_seconds histogram\neddy_b_seconds_bucket{stage=\"d\",le=\"1\"} 2\n\
                    eddy_b_seconds_bucket{stage=\"d\",le=\"+Inf\"} 3\neddy_b_seconds_sum{stage=\"d\"} 4.5\neddy_b_seconds_count{stage=\"d\"} 3\n";
        let exemplar =
            |name: &str, bound: f64| (name == "eddy_b_seconds" && bound == 1.0).then(|| " # {} 0.5".to_owned());
        let expected = "# HELP eddy_a Say \\\"x\\\"\n# TYPE eddy_a counter\neddy_a_total{stage=\"d\"} 1\n\
                        # HELP eddy_b_seconds B\n# TYPE eddy_b_seconds histogram\neddy_b_seconds_bucket{stage=\"d\",le=\"1.0\"} 2 # {} 0.5\n\
                        eddy_b_seconds_bucket{stage=\"d\",le=\"+Inf\"} 3\neddy_b_seconds_sum{stage=\"d\"} 4.5\neddy_b_seconds_count{stage=\"d\"} 3\n# EOF\n";
        assert_eq!(of(text, exemplar), expected);
    }

    /// The grammar, as far as it can be broken here: families are described before their samples and stand together, samples have the
    /// suffixes of their type, exemplars stand on buckets alone, and nothing follows the end.
    fn assert_valid(text: &str) {
        let mut seen = std::collections::BTreeSet::new();
        let (mut family, mut kind) = (String::new(), String::new());
        let mut lines = text.strip_suffix("# EOF\n").expect("the end").lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, said) = help.split_once(' ').unwrap();
                assert!(seen.insert(name.to_owned()), "{name} twice");
                assert!(!said.replace("\\\"", "").contains('"'), "{line}");
                let typed = lines.next().unwrap().strip_prefix("# TYPE ").unwrap().to_owned();
                let (of, said) = typed.split_once(' ').unwrap();
                assert_eq!(of, name);
                (family, kind) = (name.to_owned(), said.to_owned());
                continue;
            }
            let (sample, exemplar) = line.split_once(" # ").map_or((line, None), |(sample, rest)| (sample, Some(rest)));
            let name = sample.split(['{', ' ']).next().unwrap();
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
            let allowed: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{other}"),
            };
            assert!(allowed.contains(&suffix), "{line}");
            sample.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            let Some(exemplar) = exemplar else { continue };
            assert_eq!(suffix, "_bucket", "{line}");
            let (labels, rest) = exemplar.strip_prefix('{').unwrap().split_once("} ").unwrap();
            assert!(labels.len() <= 128, "{line}");
            assert!(rest.split(' ').all(|number| number.parse::<f64>().is_ok()), "{line}");
        }
    }

    #[test]
    fn all_that_a_stage_tells_is_openmetrics() {
        let telemetry = crate::telemetry::Telemetry::new("detect", 0, std::time::Duration::from_secs(1));
        telemetry.emitted(10, 2);
        telemetry.lag(3, 0.5);
        telemetry.decision("judged", 3);
        telemetry.sink(crate::telemetry::Metric::DeliveredAlerts, "phone", 2);
        telemetry.publish_seconds(std::time::Duration::from_millis(3));
        telemetry.age(0.25, Some(crate::trace::TraceContext { trace: 7, span: 9 }), 1_767_225_600_000_000_000);
        let text = telemetry.render_openmetrics();
        assert_valid(&text);
        assert!(
            text.contains("le=\"0.5\"} 1 # {trace_id=\"00000000000000000000000000000007\"} 0.25 1767225600.000\n"),
            "{text}"
        );
    }
}
