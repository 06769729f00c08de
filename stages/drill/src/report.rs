//! What a drill says in the end, and how far it is meanwhile.

use std::{collections::BTreeMap, fmt, io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::judge::Figures;

/// Of one drill.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub drill: String,
    /// Whether nothing is wrong.
    pub passed: bool,
    /// Why it could not run here, if it could not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cannot_run: Option<String>,
    /// What is wrong, the first thing first.
    pub problems: Vec<String>,
    /// What was done to the sandbox, how often.
    pub done: BTreeMap<String, u64>,
    /// Its seed.
    pub seed: u64,
    /// What is called on time, in seconds.
    pub on_time_s: f64,
    /// The judgement's figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// The undisturbed run's.
    pub expected_alerts_hash: String,
    /// What else was measured.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
    /// How long it took.
    pub seconds: f64,
    /// What passing proves.
    pub proves: &'static str,
    /// What it does not.
    pub does_not_prove: &'static str,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        let word = match (&self.cannot_run, self.passed) {
            (Some(_), _) => "CANNOT RUN",
            (None, true) => "passed",
            (None, false) => "FAILED",
        };
        writeln!(f, "drill: {} {word} in {:.1} s (seed {})", self.drill, self.seconds, self.seed)?;
        if let Some(why) = &self.cannot_run {
            return write!(f, "  {why}");
        }
        for problem in &self.problems {
            writeln!(f, "  wrong: {problem}")?;
        }
        let done: Vec<String> = self.done.iter().map(|(what, times)| format!("{what} {times}")).collect();
        writeln!(f, "  done: {}", done.join(", "))?;
        writeln!(
            f,
            "  received={} scored={} aside={} lost={} duplicated={} alerts={} alerts_hash={} undisturbed={}",
            figures.received,
            figures.scored,
            figures.aside,
            figures.lost,
            figures.duplicated,
            figures.alerts,
            figures.alerts_hash,
            self.expected_alerts_hash
        )?;
        writeln!(
            f,
            "  availability={:.4} (scored within {} s of being offered / received) pss_mb_max={}",
            figures.availability, self.on_time_s, figures.pss_mb_max
        )?;
        for (what, value) in &self.more {
            writeln!(f, "  {what}: {value}")?;
        }
        writeln!(f, "  proves: {}", self.proves)?;
        write!(f, "  does not prove: {}", self.does_not_prove)
    }
}

/// A bar on a terminal, nothing elsewhere.
#[derive(Debug)]
pub struct Progress(ProgressBar);

const STEPS: u64 = 1_000;

impl Progress {
    /// On standard error, if that is a terminal.
    pub fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(STEPS) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{prefix:>12} {bar:30} {percent:>3}% {elapsed} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Something begins.
    pub fn begin(&self, what: &str) {
        self.0.reset();
        self.0.set_prefix(what.to_owned());
        self.0.set_message("");
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    /// So much of the recording is sent, and so much was done to the sandbox.
    pub fn at(&self, share: f64, done: u64) {
        self.0.set_position((share * STEPS as f64) as u64);
        self.0.set_message(format!("{done} done to it"));
    }

    /// Says to people how it goes, and leaves the bar below it.
    pub fn tell(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }

    /// Prints, and leaves the bar below it.
    pub fn print(&self, text: &str) {
        self.0.suspend(|| eddy_cli::output::line(text));
    }

    /// Nothing more comes.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
