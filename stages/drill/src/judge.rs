//! The judgement: what a disturbed run shows that the undisturbed one does not.

use serde::Serialize;

use crate::{ledger::Account, outcome::Outcome};

/// Differences that are told.
const TOLD_MAX: usize = 8;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// What came out.
    pub outcome: Outcome,
    /// What became of the readings.
    pub account: Account,
    /// Messages of DETECTIONS that were gone before they could be read.
    pub unseen: u64,
    /// Most memory of all processes together, in bytes.
    pub pss_max: u64,
}

/// Its figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Different readings that the gateway acknowledged.
    pub received: u64,
    /// Those with a score.
    pub scored: u64,
    /// Those that were put aside with a reason.
    pub aside: u64,
    /// Those that were neither.
    pub lost: u64,
    /// Score rows beyond the first of a reading.
    pub duplicated: u64,
    /// Those with a score on time.
    pub on_time: u64,
    /// Scored on time / received, of what is not put aside.
    pub availability: f64,
    /// Events of alerts.
    pub alerts: u64,
    /// As the demo prints it.
    pub alerts_hash: String,
    /// Most memory of all processes together (PSS), in MB of 2^20 bytes.
    pub pss_mb_max: f64,
}

impl Run {
    /// Its figures.
    pub fn figures(&self) -> Figures {
        let account = &self.account;
        Figures {
            received: account.received,
            scored: account.scored,
            aside: account.aside,
            lost: account.lost,
            duplicated: account.duplicated,
            on_time: account.on_time,
            availability: (account.availability() * 1e6).round() / 1e6,
            alerts: self.outcome.alerts(),
            alerts_hash: self.outcome.alerts_hash(),
            pss_mb_max: (self.pss_max as f64 / f64::from(1 << 20) * 10.0).round() / 10.0,
        }
    }
}

/// Everything that is wrong with a disturbed run; nothing if it passes. What the config itself drops (readings beside a grid) is missing
/// undisturbed too.
pub fn judge(undisturbed: &Run, disturbed: &Run) -> Vec<String> {
    let mut problems = Vec::new();
    let (before, after) = (&undisturbed.account, &disturbed.account);
    if after.received < before.received {
        problems.push(format!("{} readings were acknowledged, and undisturbed {}", after.received, before.received));
    }
    for (what, before, after) in
        [("lost", before.lost, after.lost), ("duplicated", before.duplicated, after.duplicated)]
    {
        if after > before {
            let examples = disturbed.account.examples.iter().filter(|example| example.starts_with(what));
            let examples = examples.cloned().collect::<Vec<_>>().join("; ");
            problems.push(format!("{what}: {after} readings, and undisturbed {before} ({examples})"));
        }
    }
    if disturbed.unseen > 0 {
        problems.push(format!("{} messages of DETECTIONS were gone before they were read", disturbed.unseen));
    }
    let mut different = undisturbed.outcome.differences(&disturbed.outcome);
    let more = different.len().saturating_sub(TOLD_MAX);
    different.truncate(TOLD_MAX);
    problems.extend(different);
    if more > 0 {
        problems.push(format!("and {more} more devices or series differ"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let mut run = Run::default();
        run.outcome.alerts.insert("d".into(), vec![b"opened".to_vec(), b"closed".to_vec()]);
        run.outcome.scores.insert("d/x".into(), vec![(1, 11), (2, 22)]);
        run.account = Account { received: 2, scored: 2, on_time: 2, ..Account::default() };
        run
    }

    fn problems(change: impl FnOnce(&mut Run)) -> Vec<String> {
        let mut disturbed = run();
        change(&mut disturbed);
        judge(&run(), &disturbed)
    }

    #[test]
    fn the_same_passes_and_each_thing_that_is_wrong_fails() {
        assert_eq!(problems(|_| ()), Vec::<String>::new());
        let one = |change: fn(&mut Run), says: &str| {
            let problems = problems(change);
            assert!(problems.len() == 1 && problems[0].contains(says), "{problems:?}");
        };
        one(|run| drop(run.outcome.alerts.get_mut("d").unwrap().pop()), "alerts of d: 2 and 1");
        one(
            |run| run.outcome.alerts.get_mut("d").unwrap()[0] = b"opened!".to_vec(),
            "number 1: opened and then opened!",
        );
        one(|run| run.outcome.alerts.get_mut("d").unwrap().push(b"closed".to_vec()), "2 and 3");
        one(|run| run.account.lost = 1, "lost: 1");
        one(|run| run.account.duplicated = 1, "duplicated: 1");
        one(|run| run.account.received = 1, "1 readings were acknowledged");
        one(|run| run.outcome.scores.get_mut("d/x").unwrap().push((2, 22)), "scores of d/x: 2 and 3");
        one(|run| run.unseen = 1, "1 messages");
    }

    #[test]
    fn what_is_missing_undisturbed_too_is_the_configs() {
        let mut before = run();
        before.account.lost = 3;
        let mut after = before.clone();
        assert_eq!(judge(&before, &after), Vec::<String>::new());
        after.account.lost = 4;
        assert_eq!(judge(&before, &after).len(), 1);
    }
}
