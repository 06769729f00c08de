//! What `eddy top` shows and what keys do to it: no terminal, no bus and no clock.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    curves::Curves,
    deed::Deed,
    prompt::{Next, Prompt},
};
use crate::watch::view::{AlertView, Incident, View};

/// Characters of a filter.
const FILTER_CHARS_MAX: usize = 100;
/// Rows that a page is taken for.
const PAGE: isize = 10;

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pane {
    /// A line for everything, and the first incidents.
    #[default]
    Overview,
    /// Incidents, and all of the chosen one.
    Alerts,
    /// Stages, streams, the region, bundles, devices: all that there is, to scroll through.
    Stages,
}

impl Pane {
    /// In the order of their keys.
    pub const ALL: [Self; 3] = [Self::Overview, Self::Alerts, Self::Stages];

    /// On its tab.
    pub fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Alerts => "Alerts",
            Self::Stages => "Stages",
        }
    }

    fn after(self, steps: usize) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        Self::ALL[(at + steps) % Self::ALL.len()]
    }
}

/// What keys are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Mode {
    /// Looking around.
    #[default]
    Look,
    /// The filter is being written.
    Filter,
    /// The keys are being explained.
    Help,
    /// Something is being asked.
    Prompt(Prompt),
}

/// What a key asks of others.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// To end.
    Quit,
    /// To draw everything anew: something else wrote on the terminal.
    Redraw,
    /// To do something.
    Do(Deed),
}

/// How something that was done ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is being done.
    Busy(String),
    /// It is done.
    Done(String),
    /// It is not.
    Failed(String),
}

/// Which incident, and which of its alerts. Ids hold it where it is while others come and go.
#[derive(Clone, Debug, Default, PartialEq)]
struct Choice {
    /// An alert of the incident; none: the first one, whichever that is.
    incident: Option<String>,
    /// The alert; none: the newest one.
    alert: Option<String>,
    /// Where the incident was seen last.
    at: usize,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// What there is to show.
    pub view: Arc<View>,
    /// Who acts.
    pub who: String,
    /// What fills the screen.
    pub pane: Pane,
    /// Only incidents with this in device, cause, label or severity; empty: all.
    pub filter: String,
    /// Suppressed ones too.
    pub hidden_shown: bool,
    /// Without those that are over.
    pub open_only: bool,
    /// The chosen incident alone, without the list.
    pub whole: bool,
    /// Columns and rows of the screen.
    pub size: (u16, u16),
    /// Lines of the stages' pane that are above the screen.
    pub scroll: usize,
    /// What keys are for.
    pub mode: Mode,
    /// How the last thing that was done ended.
    pub outcome: Option<Outcome>,
    /// Curves that were read.
    pub curves: Curves,
    choice: Choice,
}

impl State {
    /// Nothing seen yet, by somebody who wants to see this.
    pub fn new(who: &str, pane: Pane, filter: &str) -> Self {
        Self { who: who.to_owned(), pane, filter: filter.to_owned(), ..Self::default() }
    }

    /// Takes a newer view.
    pub fn take(&mut self, view: Arc<View>) {
        self.view = view;
        self.choice.at = self.chosen().map_or(0, |(at, _)| at);
    }

    /// Takes how something ended.
    pub fn done(&mut self, result: Result<String, String>) {
        self.outcome = Some(match result {
            Ok(said) => Outcome::Done(said),
            Err(problem) => Outcome::Failed(problem),
        });
    }

    /// The incidents that are listed.
    pub fn incidents(&self) -> Vec<&Incident> {
        let wanted = self.filter.to_lowercase();
        let is_shown = |incident: &&Incident| {
            (self.hidden_shown || incident.suppressed.is_none())
                && (!self.open_only || incident.open > 0)
                && matches(incident, &wanted)
        };
        self.view.alerts.incidents.iter().filter(is_shown).collect()
    }

    /// The chosen one, and its place in [`Self::incidents`].
    pub fn chosen(&self) -> Option<(usize, &Incident)> {
        let incidents = self.incidents();
        let has = |incident: &&Incident, id: &String| incident.alerts.iter().any(|alert| alert.alert == *id);
        let held = self.choice.incident.as_ref().map(|id| {
            let now = incidents.iter().position(|incident| has(incident, id));
            now.unwrap_or(self.choice.at)
        });
        let at = held.unwrap_or(0).min(incidents.len().checked_sub(1)?);
        incidents.get(at).map(|incident| (at, *incident))
    }

    /// The chosen alert of the chosen incident, and its place there.
    pub fn alert(&self) -> Option<(usize, &AlertView)> {
        let (_, incident) = self.chosen()?;
        let held = |alert: &AlertView| Some(&alert.alert) == self.choice.alert.as_ref();
        let at = incident.alerts.iter().position(held).unwrap_or(0);
        incident.alerts.get(at).map(|alert| (at, alert))
    }

    /// The alert whose curves are looked at.
    pub fn looked_at(&self) -> Option<&AlertView> {
        (self.pane == Pane::Alerts).then(|| self.alert()).flatten().map(|(_, alert)| alert)
    }

    /// Takes text that was pasted: as text alone, where text is asked for.
    pub fn paste(&mut self, text: &str) {
        for letter in text.chars().filter(|letter| !letter.is_control()) {
            match &mut self.mode {
                Mode::Filter => self.write(letter),
                Mode::Prompt(prompt) => prompt.write(letter),
                Mode::Look | Mode::Help => return,
            }
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Option<Ask> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Ask::Quit),
                KeyCode::Char('l') => Some(Ask::Redraw),
                _ => None,
            };
        }
        if key.modifiers.contains(KeyModifiers::ALT) {
            // Esc and the key after it, which came at once.
            self.key(KeyCode::Esc.into());
            return self.key(key.code.into());
        }
        match &mut self.mode {
            Mode::Look => return self.look(key.code),
            Mode::Help => self.mode = Mode::Look,
            Mode::Filter => self.filter(key.code),
            Mode::Prompt(prompt) => match prompt.key(key.code) {
                Next::Stay => {}
                Next::Leave => self.mode = Mode::Look,
                Next::Do(deed) => {
                    self.mode = Mode::Look;
                    self.outcome = Some(Outcome::Busy(format!("{} …", deed.words())));
                    return Some(Ask::Do(deed));
                }
            },
        }
        None
    }

    fn look(&mut self, key: KeyCode) -> Option<Ask> {
        // What went wrong stays until it is sent away.
        if matches!(self.outcome, Some(Outcome::Done(_))) {
            self.outcome = None;
        }
        match key {
            KeyCode::Char('q') => return Some(Ask::Quit),
            KeyCode::Char('?') | KeyCode::F(1) => self.mode = Mode::Help,
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Tab => self.pane = self.pane.after(1),
            KeyCode::BackTab => self.pane = self.pane.after(Pane::ALL.len() - 1),
            KeyCode::Char(digit @ '1'..='3') => self.pane = Pane::ALL[digit as usize - '1' as usize],
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Right => self.turn(1),
            KeyCode::Left => self.turn(-1),
            KeyCode::Enter if self.pane == Pane::Overview => self.pane = Pane::Alerts,
            KeyCode::Enter if self.pane == Pane::Alerts => self.whole = !self.whole,
            KeyCode::Esc => self.leave(),
            KeyCode::Char('s') => self.hidden_shown = !self.hidden_shown,
            KeyCode::Char('o') => self.open_only = !self.open_only,
            KeyCode::Char(key @ ('a' | 'l' | 'm')) => self.ask(key),
            _ => {}
        }
        None
    }

    /// Esc: the last thing that was opened goes.
    fn leave(&mut self) {
        if self.outcome.take().is_none() && !std::mem::take(&mut self.whole) {
            self.filter.clear();
        }
    }

    fn filter(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.mode = Mode::Look,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Look;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.write(letter),
            _ => {}
        }
    }

    fn write(&mut self, letter: char) {
        if self.filter.chars().count() < FILTER_CHARS_MAX {
            self.filter.push(letter);
        }
    }

    /// Moves the choice, or the stages' pane.
    fn go(&mut self, steps: isize) {
        if self.pane == Pane::Stages {
            self.scroll = self.scroll.saturating_add_signed(steps).min(super::draw::stages_end(&self.view, self.size));
            return;
        }
        let incidents = self.incidents();
        let Some((at, _)) = self.chosen() else { return };
        let at = at.saturating_add_signed(steps).min(incidents.len() - 1);
        let newest = incidents[at].alerts.first().map(|alert| alert.alert.clone());
        self.choice = Choice { incident: newest, alert: None, at };
    }

    /// To an older or newer alert of the incident.
    fn turn(&mut self, steps: isize) {
        let Some(((at, incident), (alert, _))) = self.chosen().zip(self.alert()) else { return };
        let alert = alert.saturating_add_signed(steps).min(incident.alerts.len().saturating_sub(1));
        let id = incident.alerts.get(alert).map(|alert| alert.alert.clone());
        self.choice = Choice { incident: id.clone(), alert: id, at };
    }

    fn ask(&mut self, key: char) {
        if matches!(self.outcome, Some(Outcome::Busy(_))) {
            return;
        }
        let Some(((_, incident), (_, alert))) = self.chosen().zip(self.alert()).filter(|_| self.pane != Pane::Stages)
        else {
            self.outcome = Some(Outcome::Failed("no alert is chosen: 1 or 2, then up and down".into()));
            return;
        };
        let prompt = match key {
            'a' => Prompt::acknowledge(incident, alert, &self.who),
            'l' => Prompt::label(alert),
            _ => Prompt::maintain(&incident.device, self.view.maintenance.get(&incident.device).copied()),
        };
        // What is asked about is held on to, wherever it moves meanwhile.
        let id = alert.alert.clone();
        self.choice.incident = Some(id);
        self.mode = Mode::Prompt(prompt);
    }
}

/// Whether one of an incident's words has `wanted` (in lower case) in it.
fn matches(incident: &Incident, wanted: &str) -> bool {
    let has = |word: &str| word.to_lowercase().contains(wanted);
    let labels = || incident.alerts.iter().filter_map(|alert| alert.label.as_ref());
    wanted.is_empty()
        || has(&incident.device)
        || has(&incident.cause)
        || has(incident.severity.as_str())
        || labels().any(|label| has(&label.what))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
