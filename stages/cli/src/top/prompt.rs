//! What is asked before something is done: first what, where that is to be written, then whether.

use eddy_schemas::{Timestamp, alert::Phase};
use ratatui::crossterm::event::KeyCode;

use super::{
    deed::Deed,
    words::{self, name},
};
use crate::{
    alerts::parse_duration,
    watch::view::{AlertView, Incident},
};

/// Bytes of what is written: a label has no more.
const TEXT_BYTES_MAX: usize = 200;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// What is to be done?
    Write {
        /// Of what.
        about: About,
        /// What was written.
        text: String,
        /// Why that is not taken.
        problem: Option<String>,
    },
    /// Is this to be done?
    Confirm {
        /// What would be done.
        deed: Deed,
        /// In words.
        question: String,
    },
}

/// What something is written about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// What an alert was.
    Label {
        /// The device.
        device: String,
        /// The alert's id.
        alert: String,
    },
    /// A device's maintenance.
    Maintenance {
        /// The device.
        device: String,
        /// What holds already: until then, or until it is ended.
        until: Option<Option<Timestamp>>,
    },
}

/// What follows a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The same question, or the next one.
    Stay,
    /// Nothing is done.
    Leave,
    /// This is done.
    Do(Deed),
}

impl Prompt {
    /// Of all alerts of an incident that are open and that nobody looks after; where there is none of the chosen one.
    pub fn acknowledge(incident: &Incident, alert: &AlertView, who: &str) -> Self {
        let waits = |alert: &&AlertView| alert.phase != Phase::Closed && alert.acknowledged.is_none();
        let mut alerts: Vec<String> = incident.alerts.iter().filter(waits).map(|alert| alert.alert.clone()).collect();
        if alerts.is_empty() {
            alerts.push(alert.alert.clone());
        }
        let (device, cause) = (name(&incident.device), name(&incident.cause));
        let question =
            format!("acknowledge {} of {device}, {cause}, as {}", words::count(alerts.len(), "alert"), name(who));
        Self::Confirm { deed: Deed::Acknowledge { device: incident.device.clone(), alerts }, question }
    }

    /// What the chosen alert was.
    pub fn label(alert: &AlertView) -> Self {
        Self::write_about(About::Label { device: alert.device.clone(), alert: alert.alert.clone() })
    }

    /// Maintenance of a device, with what holds already.
    pub fn maintain(device: &str, until: Option<Option<Timestamp>>) -> Self {
        Self::write_about(About::Maintenance { device: device.to_owned(), until })
    }

    fn write_about(about: About) -> Self {
        Self::Write { about, text: String::new(), problem: None }
    }

    /// What is asked.
    pub fn question(&self) -> String {
        match self {
            Self::Confirm { question, .. } => format!("{question}? y / n"),
            Self::Write { problem: Some(problem), .. } => format!("{problem}:"),
            Self::Write { about, problem: None, .. } => about.question(),
        }
    }

    /// What was written, where something is to be written.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Write { text, .. } => Some(text),
            Self::Confirm { .. } => None,
        }
    }

    /// A letter more.
    pub fn write(&mut self, letter: char) {
        if let Self::Write { text, problem, .. } = self
            && text.len() + letter.len_utf8() <= TEXT_BYTES_MAX
        {
            text.push(letter);
            *problem = None;
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyCode) -> Next {
        match (&mut *self, key) {
            (_, KeyCode::Esc) | (Self::Confirm { .. }, KeyCode::Char('n' | 'N' | 'q')) => return Next::Leave,
            (Self::Confirm { deed, .. }, KeyCode::Char('y' | 'Y')) => return Next::Do(deed.clone()),
            (Self::Write { text, .. }, KeyCode::Backspace) => drop(text.pop()),
            (Self::Write { .. }, KeyCode::Char(letter)) => self.write(letter),
            (Self::Write { about, text, problem }, KeyCode::Enter) => match about.read(text.trim()) {
                Ok((deed, question)) => *self = Self::Confirm { deed, question },
                Err(wrong) => *problem = Some(wrong),
            },
            _ => {}
        }
        Next::Stay
    }
}

impl About {
    fn question(&self) -> String {
        match self {
            Self::Label { device, .. } => format!("what was it, at {}? normal, or a fault's name:", name(device)),
            Self::Maintenance { device, until } => {
                let holds = match until {
                    None => String::new(),
                    Some(None) => ", which is under it".to_owned(),
                    Some(Some(until)) => format!(", which is until {}", words::moment(*until)),
                };
                format!("maintenance of {}{holds}? 2h, 30m, on or off:", name(device))
            }
        }
    }

    /// What was written, as a deed and as the question whether.
    fn read(&self, text: &str) -> Result<(Deed, String), String> {
        match self {
            Self::Label { device, alert } => {
                if text.is_empty() || text == "*" {
                    return Err("normal, or a fault's name, but not *".into());
                }
                let deed = Deed::Label { device: device.clone(), alert: alert.clone(), label: text.to_owned() };
                let device = name(device);
                let question = match text {
                    "normal" => format!("{device}: normal, so that it closes, is learned and does not alert again"),
                    fault => format!("{device}: alert {} was `{}`", name(alert), name(fault)),
                };
                Ok((deed, question))
            }
            Self::Maintenance { device, .. } => {
                let (on, for_ns) = match text {
                    "off" => (false, None),
                    "on" => (true, None),
                    text => (true, Some(parse_duration(text).map_err(|expected| format!("{expected}, on or off"))?)),
                };
                let deed = Deed::Maintain { device: device.clone(), on, for_ns };
                let device = name(device);
                let question = match (on, for_ns) {
                    (false, _) => format!("end the maintenance of {device}"),
                    (true, None) => format!("{device} neither alerts nor learns until its maintenance is ended"),
                    (true, Some(_)) => format!("{device} neither alerts nor learns for {}", name(text)),
                };
                Ok((deed, question))
            }
        }
    }
}
