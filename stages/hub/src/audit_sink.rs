//! Where decisions are told that somebody may ask about later.

use std::sync::{Mutex, PoisonError};

use eddy_runtime::audit::Audit;

/// Takes what is to be logged. What cannot be logged is the sink's affair: those who call it have nothing to undo.
pub trait AuditSink: Send + Sync {
    /// Logs `what` was done or tried (`merge`, `news`, …), `who` did (a site, a certificate's subject, `hub`), how it ended (`ok`,
    /// `refused`, `replayed`, `gap` …), and why, in words.
    fn note(&self, what: &str, who: &str, outcome: &str, detail: &str);
}

/// What the hub itself decides.
impl AuditSink for Audit {
    fn note(&self, what: &str, who: &str, outcome: &str, detail: &str) {
        if let Err(error) = self.decide(who, what, outcome, detail) {
            tracing::error!(%error, what, who, outcome, detail, "a decision is not logged");
        }
    }
}

/// Keeps the last ones, for tests.
#[derive(Debug, Default)]
pub struct MemoryAudit(Mutex<Vec<[String; 4]>>);

/// More than any test makes.
const KEPT: usize = 100_000;

impl MemoryAudit {
    /// What was logged: what, who, outcome, detail.
    pub fn notes(&self) -> Vec<[String; 4]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AuditSink for MemoryAudit {
    fn note(&self, what: &str, who: &str, outcome: &str, detail: &str) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.len() < KEPT {
            notes.push([what, who, outcome, detail].map(str::to_owned));
        }
    }
}
