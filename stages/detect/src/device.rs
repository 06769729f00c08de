//! One device: its channels, their evidence taken together, and its episode.

use eddy_runtime::position::Seen;
use eddy_schemas::{
    Timestamp,
    alert::{Alert, CloudEvent, Phase, Share},
    rfc3339,
};
use eddy_vectors::fusion::HarmonicMean;

use crate::{
    Config,
    budget::{Block, Budget},
    config::nanoseconds,
    episode::{Episode, Rules},
    joint::Joint,
    plan::Plan,
    series::{Changed, Series},
};

/// A refractory time is at most that part of the time in which the budget allows one alert.
const REFRACTORY_SHARE: f64 = 0.25;
/// Above every threshold.
pub const THRESHOLD_MAX: f64 = 0.1;

/// A device and all that is known of it.
#[derive(Clone, Debug)]
pub struct Device {
    /// Percent-encoded, as it stands in series.
    pub token: String,
    /// As its operator calls it.
    pub name: String,
    /// Its channels, in the order in which they first came.
    pub channels: Vec<Series>,
    /// All of them together.
    pub joint: Joint,
    /// Its present or last episode.
    pub episode: Episode,
    /// How often its threshold was reached.
    pub budget: Budget,
    /// Under maintenance until the first row past this event time.
    pub maintenance: Option<Timestamp>,
    /// Time of its newest row.
    pub newest: Timestamp,
    /// Where that row, or one that came later, stood in the input.
    pub seen: Seen,
    /// Whether its record is to be saved.
    pub changed: bool,
    /// Whether it stands in the list of what is to be saved.
    pub listed: bool,
    /// Whether it belongs to a snapshot that is being told, and is not told yet.
    pub pending: bool,
}

/// The device's evidence at a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fused {
    /// Tail probability over channels and their joint.
    pub tail: f64,
    /// At or below this an alert would open, did tails mean what they say: the witnesses' thresholds added up, as the harmonic
    /// mean multiplies.
    pub threshold: f64,
}

impl Device {
    /// A device never seen.
    pub fn new(token: &str) -> Self {
        Self {
            token: token.to_owned(),
            name: eddy_schemas::names::decode(token),
            channels: Vec::new(),
            joint: Joint::default(),
            episode: Episode::default(),
            budget: Budget::default(),
            maintenance: None,
            newest: i64::MIN,
            seen: Seen::default(),
            changed: true,
            listed: false,
            pending: false,
        }
    }

    /// All of its records are to be saved.
    pub fn touch(&mut self) {
        (self.changed, self.joint.changed_cold) = (true, true);
        for series in &mut self.channels {
            series.changed = Changed { hot: true, delays: true, calibrations: true };
            series.heads.iter_mut().for_each(|state| state.history.touch());
        }
    }

    /// Whether the newest word of a channel still counts at `time`.
    fn speaks(series: &Series, time: Timestamp, config: &Config) -> bool {
        series.live && time.saturating_sub(series.newest) <= config.stale_after_ns(series.hop)
    }

    /// The joint's newest word, if it still counts at `time`.
    fn joint_tail(&self, time: Timestamp, config: &Config) -> Option<f64> {
        let stale = config.stale_after_ns(self.channels.iter().map(|series| series.hop).max().unwrap_or(1));
        (self.joint.channels() > 0 && time.saturating_sub(self.joint.time) <= stale).then_some(self.joint.tail)
    }

    /// What a channel told last, if its word still counts at `time`; else 0.
    pub fn said(series: &Series, time: Timestamp, config: &Config) -> f32 {
        if Self::speaks(series, time, config) { series.told.last } else { 0.0 }
    }

    /// The highest of what its channels but the one at `place` told last, and of `own`.
    pub fn loudest(&self, place: u16, own: f32, time: Timestamp, config: &Config) -> f32 {
        let others = self.channels.iter().enumerate().filter(|(at, _)| *at != usize::from(place));
        others.map(|(_, series)| Self::said(series, time, config)).fold(own, f32::max)
    }

    /// What was held of its episode is normal: it enters the memories.
    pub fn admit_held(&mut self, plan: &Plan) {
        self.channels.iter_mut().for_each(|series| series.admit_held(plan));
        self.joint.admit_held();
    }

    /// All evidence at `time`.
    pub fn fuse(&self, plan: &Plan, config: &Config, time: Timestamp) -> Fused {
        let (mut mean, mut threshold) = (HarmonicMean::default(), 0.0);
        for series in self.channels.iter().filter(|series| Self::speaks(series, time, config)) {
            mean.add(series.tail, 1.0);
            threshold += config.threshold(series.hop);
        }
        if let (Some(head), Some(tail)) = (plan.joint, self.joint_tail(time, config)) {
            let weight = plan.heads[head].evidence;
            mean.add(tail, weight);
            threshold += weight * self.channels.first().map_or(0.0, |series| config.threshold(series.hop));
        }
        Fused { tail: mean.p(), threshold: threshold.min(THRESHOLD_MAX) }
    }

    /// How rows count for this device: limits in rows of each channel, in rows of all; times are as they are.
    pub fn rules(&self, config: &Config) -> Rules {
        let live = self.channels.iter().filter(|series| series.live).count().max(1) as u32;
        // An alert that the budget allows is not to fall into the refractory time of the one before.
        let hop = self.channels.iter().map(|series| series.hop).max().unwrap_or(1);
        let allowed = config.allowed(hop) * f64::from(live);
        let refractory_max = (REFRACTORY_SHARE / allowed.max(f64::MIN_POSITIVE)) as u32;
        Rules {
            hysteresis: config.hysteresis,
            close_after_rows: config.close_after_rows.saturating_mul(live),
            close_after_ns: nanoseconds(config.close_after_s),
            refractory_rows: config.refractory_rows.min(refractory_max).saturating_mul(live),
            refractory_ns: nanoseconds(config.refractory_s),
            updates_max: config.updates_max,
        }
    }

    /// How long a block of its [`Budget`] is: the time that an alert takes until the next one may open.
    pub fn block(&self, rules: &Rules) -> Block {
        Block {
            rows: rules.close_after_rows.saturating_add(rules.refractory_rows).max(1),
            ns: rules.close_after_ns.saturating_add(rules.refractory_ns),
        }
    }

    /// The event that tells where the episode stands at `time`.
    pub fn event(&self, plan: &Plan, config: &Config, site: &str, phase: Phase, time: Timestamp) -> CloudEvent {
        let episode = &self.episode;
        let opened = rfc3339(episode.opened);
        let mut identity = blake3::Hasher::new();
        for part in [site, &self.name, &opened, &plan.digest] {
            identity.update(&(part.len() as u64).to_le_bytes());
            identity.update(part.as_bytes());
        }
        let (channels, heads) = self.shares(plan, config, time);
        let alert = Alert {
            alert: identity.finalize().to_hex()[..16].to_owned(),
            phase,
            severity: episode.severity,
            site: site.to_owned(),
            device: self.name.clone(),
            opened,
            score: significant(f64::from(episode.score)),
            tail: significant(episode.tail),
            threshold: significant(episode.threshold),
            tail_min: significant(episode.tail_min),
            channels,
            heads,
            bundle: plan.digest.clone(),
        };
        // The number of the event is told after it was counted.
        CloudEvent::new(alert, episode.events.saturating_sub(1), rfc3339(time))
    }

    /// The episode's id, as it stands in its alerts.
    pub fn episode_id(&self, plan: &Plan, config: &Config, site: &str) -> Option<String> {
        (self.episode.events > 0).then(|| self.event(plan, config, site, Phase::Closed, self.newest).data.alert)
    }

    fn shares(&self, plan: &Plan, config: &Config, time: Timestamp) -> (Vec<Share>, Vec<Share>) {
        let mut channels: Vec<f64> = vec![0.0; self.channels.len()];
        let mut heads: Vec<f64> = vec![0.0; plan.heads.len()];
        for (at, series) in self.channels.iter().enumerate().filter(|(_, s)| Self::speaks(s, time, config)) {
            let of_heads: f64 = series.evidence.iter().map(|part| f64::from(*part)).sum();
            let part = 1.0 / series.tail - 1.0;
            channels[at] += part;
            for (evidence, head) in series.evidence.iter().zip(&plan.series) {
                heads[*head] += part * f64::from(*evidence) / of_heads.max(f64::MIN_POSITIVE);
            }
        }
        if let (Some(head), Some(tail)) = (plan.joint, self.joint_tail(time, config)) {
            let part = plan.heads[head].evidence * (1.0 / tail - 1.0);
            heads[head] += part;
            channels.iter_mut().zip(self.joint.shares()).for_each(|(channel, share)| *channel += part * share);
        }
        let channel_names = self.channels.iter().map(|series| series.channel.as_str());
        let head_names = plan.heads.iter().map(|head| head.name.as_str());
        (ranked(channel_names.zip(channels)), ranked(head_names.zip(heads)))
    }
}

/// Shares that sum to about 1, largest first, of four decimals; those that would be 0 are left out.
fn ranked<'a>(parts: impl Iterator<Item = (&'a str, f64)>) -> Vec<Share> {
    let mut parts: Vec<(&str, f64)> = parts.collect();
    // Where a tail is so thin that it is 0, all of the weight lies there.
    let is_beyond = parts.iter().any(|(_, part)| part.is_infinite());
    for (_, part) in &mut parts {
        *part = if is_beyond { f64::from(u8::from(part.is_infinite())) } else { part.max(0.0) };
    }
    let whole: f64 = parts.iter().map(|(_, part)| part).sum();
    let share = |part: f64| (part / whole.max(f64::MIN_POSITIVE) * 1e4).round() / 1e4;
    let mut shares: Vec<Share> =
        parts.iter().map(|(name, part)| Share { name: (*name).to_owned(), share: share(*part) }).collect();
    shares.retain(|share| share.share > 0.0);
    // Stable, so equals keep the order of the channels.
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    shares
}

/// Four significant digits: as much as a tail probability is worth.
fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_ranked_rounded_and_without_zeros() {
        let shares = ranked([("a", 1.0), ("b", 2.0), ("c", 0.0), ("d", 1e-9)].into_iter());
        let told: Vec<(&str, f64)> = shares.iter().map(|share| (share.name.as_str(), share.share)).collect();
        assert_eq!(told, [("b", 0.6667), ("a", 0.3333)]);
        assert!(ranked([("a", 0.0)].into_iter()).is_empty());
        let shares = ranked([("a", f64::INFINITY), ("b", 2.0), ("c", f64::INFINITY), ("d", f64::NAN)].into_iter());
        let told: Vec<(&str, f64)> = shares.iter().map(|share| (share.name.as_str(), share.share)).collect();
        assert_eq!(told, [("a", 0.5), ("c", 0.5)], "what is no number would be null in an alert");
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!((significant(1.23456e-9), significant(0.0), significant(f64::INFINITY)), (1.235e-9, 0.0, 0.0));
        assert_eq!(significant(1e-30), 1e-30);
    }
}
