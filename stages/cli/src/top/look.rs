//! Colours and signs. Whatever a colour says a word or a sign says too.

use eddy_schemas::alert::Severity;
use ratatui::style::{Color, Modifier, Style};

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It is as it should be.
    Fine,
    /// Somebody should look at it.
    Warning,
    /// It is broken.
    Broken,
}

impl Level {
    /// Its sign.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Fine => " ",
            Self::Warning => "!",
            Self::Broken => "‼",
        }
    }
}

/// How a severity is written.
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "‼ critical",
        Severity::Major => "! major",
        Severity::Minor => "· minor",
    }
}

/// How things look: with the terminal's own colours, or without any.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Whether colours are used.
    pub colour: bool,
}

impl Look {
    /// As <https://no-color.org> has it.
    pub fn of_environment() -> Self {
        Self { colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of a severity.
    pub fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Critical => self.coloured(Color::Red).add_modifier(Modifier::BOLD),
            Severity::Major => self.coloured(Color::Yellow),
            Severity::Minor => self.coloured(Color::Cyan),
        }
    }

    /// Of what matters so much.
    pub fn level(self, level: Level) -> Style {
        match level {
            Level::Fine => Style::new(),
            Level::Warning => self.coloured(Color::Yellow),
            Level::Broken => self.coloured(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// Of what stands out.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of what need not be read.
    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Of what is chosen, or written just now.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of curves.
    pub fn curve(self) -> Style {
        self.coloured(Color::Green)
    }
}
