//! What the doctor says: findings with their remedies, and what could not be looked at.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It will be a problem, or may be one.
    Warning,
    /// It is one.
    Error,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where: a file, a stream, a process.
    pub place: String,
    /// What is there, with its value.
    pub what: String,
    /// What to do, with the command.
    pub remedy: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order of the checks.
    pub findings: Vec<Finding>,
    /// The checks that were made.
    pub checked: Vec<&'static str>,
    /// What could not be looked at, and why.
    pub unchecked: Vec<String>,
}

impl Report {
    /// Begins a check.
    pub fn check(&mut self, name: &'static str) -> Check<'_> {
        if !self.checked.contains(&name) {
            self.checked.push(name);
        }
        Check { name, report: self }
    }

    /// So many findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether the exit code says so: with `strict` warnings count too.
    pub fn is_sound(&self, strict: bool) -> bool {
        self.count(Severity::Error) == 0 && (!strict || self.findings.is_empty())
    }
}

/// A check that adds to a report.
pub struct Check<'a> {
    name: &'static str,
    report: &'a mut Report,
}

impl Check<'_> {
    /// It is a problem.
    pub fn error(&mut self, place: impl ToString, what: impl ToString, remedy: impl ToString) {
        self.add(Severity::Error, place, what, remedy);
    }

    /// It may become one.
    pub fn warning(&mut self, place: impl ToString, what: impl ToString, remedy: impl ToString) {
        self.add(Severity::Warning, place, what, remedy);
    }

    /// It could not be looked at.
    pub fn unchecked(&mut self, why: impl std::fmt::Display) {
        self.report.unchecked.push(format!("{}: {why}", self.name));
    }

    fn add(&mut self, severity: Severity, place: impl ToString, what: impl ToString, remedy: impl ToString) {
        let (place, what, remedy) = (place.to_string(), what.to_string(), remedy.to_string());
        self.report.findings.push(Finding { check: self.name, severity, place, what, remedy });
    }
}

/// What `look` finds.
#[cfg(test)]
pub fn found(look: impl FnOnce(&mut Check<'_>)) -> Report {
    let mut report = Report::default();
    look(&mut report.check("test"));
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_alone_are_sound_unless_it_is_strict() {
        let warned = found(|check| check.warning("a", "b", "c"));
        assert!(warned.is_sound(false) && !warned.is_sound(true));
        assert!(!found(|check| check.error("a", "b", "c")).is_sound(false));
        assert!(found(|_| {}).is_sound(true));
    }
}
