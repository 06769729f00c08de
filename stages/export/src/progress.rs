//! What a person sees of an export while it runs.

use std::sync::Mutex;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::class::Class;

/// A bar on standard error, if that is a terminal; or nothing.
#[derive(Debug, Default)]
pub struct Progress {
    bar: Option<ProgressBar>,
    /// The first sequence of what is read now.
    first: Mutex<u64>,
}

impl Progress {
    /// A bar.
    pub fn bar() -> Self {
        Self { bar: Some(ProgressBar::no_length()), first: Mutex::default() }
    }

    pub(crate) fn begin(&self, class: Class, first: u64, last: u64) {
        let Some(bar) = &self.bar else { return };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {percent:>3}%  {elapsed} (left {eta})") {
            bar.set_style(style);
        }
        bar.reset();
        bar.set_length((last + 1).saturating_sub(first));
        bar.set_message(format!("{} {}", class.name(), HumanCount(last)));
        if let Ok(mut at) = self.first.lock() {
            *at = first;
        }
    }

    pub(crate) fn at(&self, sequence: u64) {
        if let (Some(bar), Ok(first)) = (&self.bar, self.first.lock()) {
            bar.set_position((sequence + 1).saturating_sub(*first));
        }
    }

    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
