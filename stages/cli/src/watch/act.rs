//! What an operator does: said to the gateway as a control, and written down in its audit log with who said it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use eddy_runtime::{
    audit::{Audit, AuditError, Bounds},
    client::ClientError,
    clock::SystemClock,
};
use eddy_schemas::{Control, ControlKind, Timestamp};

use crate::{gateway::Gateway, label, output};

/// Bounds of a gateway's audit log: some fifty thousand words.
const AUDIT: Bounds = Bounds { file_bytes_max: 1 << 20, bytes_max: 16 << 20, key: "" };
/// How often and how long another process's entry is waited for.
const PATIENCE: (u32, Duration) = (50, Duration::from_millis(100));

/// Somebody at a console.
#[derive(Clone, Debug)]
pub struct Operator {
    /// The gateway.
    pub gateway: Gateway,
    /// By which way: `console`, `top`.
    pub origin: &'static str,
    /// As they call themselves.
    pub who: String,
    /// The folder of the audit log; `None`: of a gateway on another machine, which has the controls themselves.
    pub audit: Option<PathBuf>,
}

/// As whom the machine itself labels what follows from others' labels: `eddy_vectors`' `Label::DERIVED`.
const MACHINE: &str = "index";

/// Whether somebody can be called so in a log.
///
/// # Errors
/// What is taken.
pub fn name_of(who: &str) -> Result<String, String> {
    // The last piece of a control's origin, which the region takes up to a bound, with the site and the way before it; of labels
    // the machine's own name stands there.
    let is_piece = !who.contains('/') && who != MACHINE;
    let is_name = !who.trim().is_empty() && who.len() <= 63 && who == output::printable(who);
    if is_name && is_piece {
        Ok(who.to_owned())
    } else {
        Err("a name of 1 to 63 printable bytes without / is taken, but not `index`".into())
    }
}

/// What was asked for is nothing that can be said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub String);

/// Of a gateway's folder that of its audit log.
pub const FOLDER: &str = "audit";

impl Operator {
    /// Somebody at a gateway; if it is the one of the folder `dir`, what they say is written down there.
    pub fn new(gateway: Gateway, dir: &Path, origin: &'static str, who: String) -> Self {
        let audit = gateway.file.is_some().then(|| dir.join(FOLDER));
        Self { gateway, origin, who, audit }
    }

    /// What is added to the word that something is done: nothing, or that no log here has it.
    pub fn unaudited(&self) -> &'static str {
        if self.audit.is_some() { "" } else { " It is not written down here: this is not the gateway of --dir." }
    }

    /// They look after an alert.
    ///
    /// # Errors
    /// That it is not written down, or not stored: nothing was said then.
    pub async fn acknowledge(&self, device: &str, alert: &str) -> anyhow::Result<u64> {
        let (device, alert) = (device.to_owned(), alert.to_owned());
        self.say(ControlKind::Acknowledge { device, alert }).await
    }

    /// An alert was `label`: `normal`, or a fault by its name.
    ///
    /// # Errors
    /// As [`Self::acknowledge`], or that it is no label.
    pub async fn label(&self, device: &str, alert: &str, label: &str) -> anyhow::Result<u64> {
        let label = label::word(label).map_err(Wrong)?;
        let (device, alert, label) = (device.to_owned(), alert.to_owned(), label.to_owned());
        self.say(ControlKind::Label { device, alert, label }).await
    }

    /// A device is under maintenance until then (`None`: until it is ended), or is not any more.
    ///
    /// # Errors
    /// As [`Self::acknowledge`].
    pub async fn maintain(&self, device: &str, on: bool, until: Option<Timestamp>) -> anyhow::Result<u64> {
        self.say(ControlKind::Maintenance { device: device.to_owned(), on, until }).await
    }

    /// The control's sequence.
    async fn say(&self, kind: ControlKind) -> anyhow::Result<u64> {
        let now = crate::now();
        let id = format!("{}-{now}-{}", self.origin, std::process::id());
        let control = Control { id, origin: format!("{}/{}", self.origin, self.who), time: now, kind };
        // What capture would refuse is refused here, where somebody reads it.
        Control::parse(control.to_json().as_bytes()).map_err(Wrong)?;
        // It would be kept, and said once the gateway is back, whatever is true by then.
        anyhow::ensure!(self.gateway.client.is_connected(), "the gateway does not answer: nothing was said");
        // First: what cannot be written down is not done.
        self.note(&control, "said").await?;
        let problem = match self.gateway.say(&control).await {
            Ok(sequence) => return Ok(sequence),
            Err(problem) => problem,
        };
        let is_unknown = matches!(problem, ClientError::TimedOut { .. });
        let outcome = if is_unknown { "unknown: it may be stored, now or later" } else { "failed" };
        self.note(&control, &format!("{outcome}: {problem}")).await?;
        Err(anyhow::Error::from(problem).context(format!("{}: {outcome}", control.subject_token())))
    }

    async fn note(&self, control: &Control, outcome: &str) -> anyhow::Result<()> {
        let Some(folder) = self.audit.clone() else { return Ok(()) };
        let who = control.origin.clone();
        let (what, outcome, detail) = (control.subject_token(), outcome.to_owned(), control.to_json());
        let written = tokio::task::spawn_blocking(move || append(&folder, [&who, what, &outcome, &detail]));
        written.await?.context("nothing was said: it cannot be written down")
    }
}

/// One entry. Other processes write the same log, each for a moment.
fn append(folder: &Path, [who, what, outcome, detail]: [&str; 4]) -> Result<(), AuditError> {
    let mut tries = 0;
    loop {
        match Audit::open(folder, AUDIT, Arc::new(SystemClock)) {
            Err(AuditError::InUse { .. }) if tries < PATIENCE.0 => {
                tries += 1;
                std::thread::sleep(PATIENCE.1);
            }
            audit => return audit?.decide(who, what, outcome, detail).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_as_the_machine_or_in_pieces() {
        for good in ["alice", "Dr. Ä. Öz", "index2", &"x".repeat(63)] {
            assert_eq!(name_of(good).as_deref(), Ok(good));
        }
        for bad in ["", " ", "index", "x/index", "a/b", "a\nb", &"x".repeat(64)] {
            assert!(name_of(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn two_writers_make_one_chain() {
        let folder = tempfile::tempdir().unwrap();
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let folder = folder.path().to_owned();
                std::thread::spawn(move || {
                    for n in 0..5 {
                        append(&folder, [&format!("w{writer}"), "label", "said", &n.to_string()]).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let verified = eddy_schemas::audit::verify(folder.path()).unwrap();
        assert_eq!((verified.first, verified.head.seq), (1, 10));
    }
}
