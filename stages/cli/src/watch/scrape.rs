//! What a stage tells at `/metrics`: enough of Prometheus' text to read its own counters, gauges and histograms.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

/// Rates and quantiles are over so long.
const SPAN: Duration = Duration::from_secs(10);

/// One answer: values by name, added up over labels; of buckets by their upper bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    values: BTreeMap<String, f64>,
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Scrape {
    /// Reads an answer. Lines that are none are left out.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            // An exemplar follows behind ` # `.
            let line = line.split_once(" # ").map_or(line, |(sample, _)| sample);
            let Some((key, value)) = line.trim().rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = key.split_once('{').unwrap_or((key, ""));
            match name.strip_suffix("_bucket").zip(bound(labels)) {
                Some((name, bound)) => scrape.add_bucket(name, bound, value),
                None => *scrape.values.entry(name.to_owned()).or_default() += value,
            }
        }
        scrape
    }

    fn add_bucket(&mut self, name: &str, bound: f64, value: f64) {
        let buckets = self.buckets.entry(name.to_owned()).or_default();
        match buckets.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
            Some((_, count)) => *count += value,
            None => buckets.push((bound, value)),
        }
    }

    /// A value, added up over its labels.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }
}

fn bound(labels: &str) -> Option<f64> {
    let text = labels.split_once("le=\"")?.1.split_once('"')?.0;
    text.parse().ok()
}

/// The answers of the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<(Instant, Scrape)>);

impl Recent {
    /// Takes the newest one.
    pub fn push(&mut self, at: Instant, scrape: Scrape) {
        // A process that began anew counts from zero.
        let counted = |scrape: &Scrape| scrape.value("eddy_received_messages_total").unwrap_or(0.0);
        if self.0.back().is_some_and(|(_, last)| counted(last) > counted(&scrape)) {
            self.0.clear();
        }
        self.0.push_back((at, scrape));
        while self.0.get(1).is_some_and(|(next, _)| at.duration_since(*next) >= SPAN) {
            self.0.pop_front();
        }
    }

    /// How much a counter grew, per second.
    pub fn rate(&self, name: &str) -> Option<f64> {
        let ((from, first), (to, last)) = (self.0.front()?, self.0.back()?);
        let seconds = to.duration_since(*from).as_secs_f64();
        let grown = last.value(name)? - first.value(name).unwrap_or(0.0);
        (seconds > 0.0).then(|| grown.max(0.0) / seconds)
    }

    /// The median and the 99th percentile of what a histogram took, in its unit; `None` if it took nothing. Between two bounds it is
    /// taken for even, past the last one for the last one.
    pub fn quantiles(&self, name: &str) -> Option<(f64, f64)> {
        let (first, last) = (&self.0.front()?.1, &self.0.back()?.1);
        let before = |bound: f64| {
            let buckets = first.buckets.get(name).filter(|_| self.0.len() > 1);
            let same = buckets.and_then(|all| all.iter().find(|(known, _)| known.total_cmp(&bound).is_eq()));
            same.map_or(0.0, |(_, count)| *count)
        };
        let mut grown: Vec<(f64, f64)> =
            last.buckets.get(name)?.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect();
        grown.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all = grown.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        Some((quantile(&grown, 0.5 * all), quantile(&grown, 0.99 * all)))
    }
}

/// The value below which `rank` of the observations are; `buckets` are cumulative, by their upper bounds.
fn quantile(buckets: &[(f64, f64)], rank: f64) -> f64 {
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            let share = if *count > below { (rank - below) / (count - below) } else { 1.0 };
            return if bound.is_finite() { low + (bound - low) * share } else { low };
        }
        (low, below) = (*bound, *count);
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fast: u32, all: u32) -> String {
        format!(
            "# HELP x y\neddy_received_messages_total{{stage=\"detect\"}} {all}\n\
             eddy_batch_seconds_bucket{{stage=\"detect\",le=\"0.01\"}} {fast} # {{trace_id=\"aa\"}} 0.005 1.0\n\
             eddy_batch_seconds_bucket{{stage=\"detect\",le=\"0.02\"}} {all}\n\
             eddy_batch_seconds_bucket{{stage=\"detect\",le=\"+Inf\"}} {all}\nrubbish\n"
        )
    }

    #[test]
    fn rates_and_quantiles_are_of_the_last_seconds() {
        let start = Instant::now();
        let mut recent = Recent::default();
        recent.push(start, Scrape::parse(&text(100, 100)));
        assert_eq!(recent.rate("eddy_received_messages_total"), None, "one look tells no rate");
        recent.push(start + Duration::from_secs(5), Scrape::parse(&text(150, 200)));
        assert_eq!(recent.rate("eddy_received_messages_total"), Some(20.0));
        // Half of the hundred that came were below 10 ms, the others below 20.
        let (median, high) = recent.quantiles("eddy_batch_seconds").unwrap();
        assert!((median - 0.01).abs() < 1e-9 && (high - 0.0198).abs() < 1e-9, "{median} {high}");
        assert_eq!(recent.quantiles("eddy_age_seconds"), None);
    }

    #[test]
    fn a_process_that_began_anew_is_seen_anew() {
        let start = Instant::now();
        let mut recent = Recent::default();
        recent.push(start, Scrape::parse(&text(100, 100)));
        recent.push(start + Duration::from_secs(1), Scrape::parse(&text(1, 2)));
        assert_eq!(recent.rate("eddy_received_messages_total"), None);
        recent.push(start + Duration::from_secs(2), Scrape::parse(&text(1, 5)));
        assert_eq!(recent.rate("eddy_received_messages_total"), Some(3.0));
    }
}
