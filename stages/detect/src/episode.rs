//! An alert is an episode: it opens, may get worse, and closes; not an alarm for every window.

use eddy_schemas::alert::Severity;
use eddy_vectors::codec::{CodecError, Get, Put};

/// So many periods after its opening an episode is compared with others: sooner most of a window lies before it, and later ones tell
/// no more.
pub const COMPARED_AFTER: [i64; 2] = [4, 8];

/// What an episode is told by, from config.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Quiet is a tail probability above threshold x this.
    pub hysteresis: f64,
    /// Quiet rows on end that close it.
    pub close_after_rows: u32,
    /// And no less than that many nanoseconds of event time.
    pub close_after_ns: i64,
    /// Rows after a close in which only what is worse opens a new one.
    pub refractory_rows: u32,
    /// And no less than that many nanoseconds of event time.
    pub refractory_ns: i64,
    /// Most updates.
    pub updates_max: u32,
}

/// A device's present episode, and what is remembered of the last one.
#[derive(Clone, Debug, PartialEq)]
pub struct Episode {
    /// Whether it is open.
    pub open: bool,
    /// Whether somebody called it normal while it was open: it goes on untold until it is quiet, and what it is about is learned.
    pub forgiven: bool,
    /// Whether nobody has been told of it: its bundle ran in the shadow.
    pub untold: bool,
    /// Event time of its opening.
    pub opened: i64,
    /// Fixed at its opening.
    pub severity: Severity,
    /// Events told so far; the next one's number.
    pub events: u32,
    /// Its least tail probability.
    pub tail_min: f64,
    told: f64,
    updates: u32,
    quiet_rows: u32,
    /// Event time of the newest row that was not quiet.
    loud: i64,
    refractory_rows: u32,
    refractory_until: i64,
    /// What its last event said of the window: score and tail probability.
    pub score: f32,
    /// See `score`.
    pub tail: f64,
    /// The threshold it opened at.
    pub threshold: f64,
}

impl Default for Episode {
    fn default() -> Self {
        Self {
            open: false,
            forgiven: false,
            untold: false,
            opened: 0,
            severity: Severity::Minor,
            events: 0,
            tail_min: 1.0,
            told: 1.0,
            updates: 0,
            quiet_rows: 0,
            loud: i64::MIN,
            refractory_rows: 0,
            refractory_until: i64::MIN,
            score: 0.0,
            tail: 1.0,
            threshold: 0.0,
        }
    }
}

/// What a row did to the episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing to tell.
    Nothing,
    /// It began.
    Opened,
    /// It got ten times less likely than when last told.
    Updated,
    /// It ended.
    Closed,
}

impl Episode {
    /// Moves on by one row of the device. `tells`: whether its bundle is the active one, so that what opens is told.
    pub fn step(&mut self, rules: &Rules, time: i64, tail: f64, threshold: f64, score: f32, tells: bool) -> Step {
        // What comes on top of something normal is no part of it.
        let worse = self.forgiven && tail <= threshold && tail <= self.told / 10.0;
        if !self.open || worse {
            if worse {
                (self.open, self.refractory_rows, self.refractory_until) = (false, 0, i64::MIN);
            }
            let waits = self.refractory_rows > 0 || time < self.refractory_until;
            self.refractory_rows = self.refractory_rows.saturating_sub(1);
            if tail > threshold || (waits && tail > self.tail_min / 10.0) {
                return Step::Nothing;
            }
            *self = Self {
                open: true,
                opened: time,
                severity: severity(tail, threshold),
                untold: !tells,
                events: u32::from(tells),
                tail_min: tail,
                told: tail,
                threshold,
                score,
                tail,
                loud: time,
                ..Self::default()
            };
            return Step::Opened;
        }
        // A high threshold is near to what is ordinary: no more than half of the way there.
        if tail > (self.threshold * rules.hysteresis).min(self.threshold.sqrt()) {
            self.quiet_rows = self.quiet_rows.saturating_add(1);
        } else {
            (self.quiet_rows, self.loud) = (0, time);
        }
        self.tail_min = self.tail_min.min(tail);
        (self.score, self.tail) = (score, tail);
        if !self.forgiven && tail <= self.told / 10.0 && self.updates < rules.updates_max {
            self.told = tail;
            self.updates += 1;
            self.events += u32::from(self.is_told());
            return if self.is_told() { Step::Updated } else { Step::Nothing };
        }
        if self.quiet_rows >= rules.close_after_rows && time.saturating_sub(self.loud) >= rules.close_after_ns {
            let is_told = self.is_told();
            self.close(rules, time);
            return if is_told { Step::Closed } else { Step::Nothing };
        }
        Step::Nothing
    }

    /// Whether a row at `time` is one by which it is compared with others: the first one of its series, whose row before was at
    /// `before` and whose rows lie `period` apart, that is so many periods after the opening.
    pub fn is_compared_at(&self, before: i64, time: i64, period: i64) -> bool {
        let age = |time: i64| time.saturating_sub(self.opened) / period.max(1);
        self.open && COMPARED_AFTER.iter().any(|after| age(before) < *after && *after <= age(time))
    }

    /// Whether somebody hears of what becomes of it.
    pub fn is_told(&self) -> bool {
        !self.forgiven && !self.untold
    }

    /// The bundle that judges the device changed: an open episode ends for those who are told if `tells` is no longer so, and
    /// opens for them if it is now.
    pub fn hand_over(&mut self, tells: bool) -> Step {
        if !self.open || self.forgiven || self.untold != tells {
            return Step::Nothing;
        }
        self.untold = !tells;
        self.events += 1;
        if tells { Step::Opened } else { Step::Closed }
    }

    /// Somebody called it normal: for those who are told it ends here.
    pub fn forgive(&mut self) {
        self.events += u32::from(self.is_told());
        self.forgiven = true;
        self.told = self.tail_min;
    }

    /// Fixes the severity of one that has just opened, against `word`, the threshold before a device's own past loosened it: how
    /// rare something is does not depend on how quiet the device was.
    pub fn grade(&mut self, word: f64) {
        self.severity = severity(self.tail, word);
    }

    /// Ends it, whatever it does.
    pub fn close(&mut self, rules: &Rules, time: i64) {
        self.open = false;
        self.events += u32::from(self.is_told());
        self.forgiven = false;
        self.refractory_rows = rules.refractory_rows;
        self.refractory_until = time.saturating_add(rules.refractory_ns);
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_u8(u8::from(self.open) | u8::from(self.forgiven) << 1 | u8::from(self.untold) << 2);
        [self.opened, self.loud, self.refractory_until].iter().for_each(|time| record.put_i64(*time));
        record.put_u8(self.severity as u8);
        for count in [self.events, self.updates, self.quiet_rows, self.refractory_rows] {
            record.put_u32(count);
        }
        for p in [self.tail_min, self.told, self.tail, self.threshold] {
            record.put_f64(p);
        }
        record.put_f32(self.score);
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If the record is not one.
    pub fn load(record: &mut Get<'_>) -> Result<Self, CodecError> {
        let state = record.u8()?;
        if state > 7 {
            return Err(record.error("an episode's state is none"));
        }
        let episode = Self {
            open: state & 1 != 0,
            forgiven: state & 2 != 0,
            untold: state & 4 != 0,
            opened: record.i64()?,
            loud: record.i64()?,
            refractory_until: record.i64()?,
            severity: match record.u8()? {
                0 => Severity::Minor,
                1 => Severity::Major,
                2 => Severity::Critical,
                _ => return Err(record.error("a severity is not one")),
            },
            events: record.u32()?,
            updates: record.u32()?,
            quiet_rows: record.u32()?,
            refractory_rows: record.u32()?,
            tail_min: record.f64()?,
            told: record.f64()?,
            tail: record.f64()?,
            threshold: record.f64()?,
            score: record.f32()?,
        };
        let tails = [episode.tail_min, episode.told, episode.tail, episode.threshold];
        if tails.iter().all(|p| p.is_finite() && *p >= 0.0) {
            Ok(episode)
        } else {
            Err(record.error("a tail probability is none"))
        }
    }
}

fn severity(tail: f64, threshold: f64) -> Severity {
    if tail <= threshold / 1000.0 {
        Severity::Critical
    } else if tail <= threshold / 10.0 {
        Severity::Major
    } else {
        Severity::Minor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        hysteresis: 10.0,
        close_after_rows: 2,
        close_after_ns: 0,
        refractory_rows: 3,
        refractory_ns: 0,
        updates_max: 1,
    };

    /// Steps at threshold 1e-3, one letter each; the record is written and read in between.
    fn check(tails: &[f64], expected: &str) -> Episode {
        check_by(&RULES, tails, expected)
    }

    fn check_by(rules: &Rules, tails: &[f64], expected: &str) -> Episode {
        let mut episode = Episode::default();
        let mut steps = String::new();
        for (time, tail) in tails.iter().enumerate() {
            let mut record = Vec::new();
            episode.save(&mut record);
            let mut get = Get::new(&record);
            episode = Episode::load(&mut get).unwrap();
            get.end().unwrap();
            steps.push(match episode.step(rules, time as i64, *tail, 1e-3, 0.0, true) {
                Step::Nothing => '.',
                Step::Opened => 'o',
                Step::Updated => 'u',
                Step::Closed => 'c',
            });
        }
        assert_eq!(steps, expected, "{tails:?}");
        episode
    }

    #[test]
    fn opens_at_the_threshold_and_closes_after_quiet_rows_on_end() {
        check(&[0.5, 1e-3, 0.5, 1e-2, 0.5, 0.5, 0.5], ".o...c.");
    }

    #[test]
    fn an_update_needs_ten_times_and_is_bounded() {
        let episode = check(&[1e-3, 2e-4, 1e-4, 1e-7, 0.5, 0.5], "o.u..c");
        assert_eq!((episode.events, episode.tail_min, episode.severity), (3, 1e-7, Severity::Minor));
    }

    #[test]
    fn only_worse_opens_in_the_refractory_time() {
        check(&[1e-3, 1.0, 1.0, 1e-4, 1e-3, 1e-3, 1e-3], "o.co...");
        check(&[1e-3, 1.0, 1.0, 2e-4, 2e-4, 2e-4, 2e-4], "o.c...o");
    }

    #[test]
    fn what_was_called_normal_goes_on_untold_until_it_is_quiet_or_something_worse_comes() {
        let episode = || {
            let mut episode = check(&[1e-3, 2e-4], "o.");
            episode.forgive();
            episode
        };
        let go = |mut episode: Episode, tails: &[f64]| -> (Vec<Step>, Episode) {
            let step = |(at, tail): (usize, &f64)| episode.step(&RULES, 2 + at as i64, *tail, 1e-3, 0.0, true);
            let steps = tails.iter().enumerate().map(step).collect();
            (steps, episode)
        };
        use Step::{Nothing, Opened};
        let (steps, ended) = go(episode(), &[1e-4, 5e-4, 0.5, 0.5]);
        assert_eq!(steps, [Nothing; 4]);
        assert!(!ended.open && !ended.forgiven && ended.events == 2);
        let (steps, worse) = go(episode(), &[1e-4, 2e-5]);
        assert_eq!(steps, [Nothing, Opened]);
        assert!(worse.open && !worse.forgiven && worse.events == 1);
    }

    #[test]
    fn fast_rows_are_quiet_for_a_time_and_not_only_for_a_number_of_rows() {
        let slow = Rules { close_after_ns: 4, ..RULES };
        check_by(&slow, &[1e-3, 0.5, 0.5, 0.5, 1e-3, 0.5, 0.5, 0.5, 0.5, 0.5], "o.......c.");
        let refractory = Rules { refractory_rows: 0, refractory_ns: 3, ..RULES };
        check_by(&refractory, &[1e-3, 1.0, 1.0, 2e-4, 2e-4, 2e-4, 2e-4], "o.c..o.");
    }

    #[test]
    fn it_is_compared_twice_by_each_series_whatever_is_missing() {
        let episode = Episode { open: true, opened: 1_000, ..Episode::default() };
        let compared = |times: &[i64]| -> Vec<i64> {
            let pairs = times.windows(2).filter(|pair| episode.is_compared_at(pair[0], pair[1], 10));
            pairs.map(|pair| pair[1]).collect()
        };
        let every = |step: usize| (900..2_000).step_by(step).collect::<Vec<i64>>();
        assert_eq!(compared(&every(10)), [1_040, 1_080]);
        assert_eq!(compared(&every(5)), [1_040, 1_080]);
        assert_eq!(compared(&[990, 1_003, 1_013, 1_039, 1_044, 1_300, 1_310]), [1_044, 1_300]);
        assert_eq!(compared(&[990, 1_500, 1_510]), [1_500], "once where both were missed");
        assert!(!Episode::default().is_compared_at(1_030, 1_040, 10), "no episode is open");
    }

    #[test]
    fn severity_is_that_of_the_opening() {
        for (tail, expected) in [(9e-4, Severity::Minor), (1e-4, Severity::Major), (1e-6, Severity::Critical)] {
            assert_eq!(severity(tail, 1e-3), expected);
        }
    }
}
