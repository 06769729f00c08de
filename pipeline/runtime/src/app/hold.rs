//! Staying where starting again cannot help.
//!
//! Docker and its like start again whatever ends, for any exit code. A process that was told `run --hold` does not end on bad config or state that
//! does not fit: it has said why, is unwell, and waits until the config file changes or it is asked to stop.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use super::EXIT_CONFIG;
use crate::program::EXIT_STATE;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How a process ends that may have been told to stay.
#[derive(Debug)]
pub struct Hold {
    is_asked: bool,
    file: Option<PathBuf>,
    before: Option<SystemTime>,
}

impl Hold {
    /// Of a process that reads `file` from now on.
    pub fn of(is_asked: bool, file: Option<&Path>) -> Self {
        Self { is_asked, file: file.map(ToOwned::to_owned), before: changed_at(file) }
    }

    /// Tells why the process ends; stays, if that was asked for and starting again would end alike.
    pub fn end(&self, name: &str, code: u8, message: &str) -> ExitCode {
        say(name, message);
        if self.is_asked && matches!(code, EXIT_CONFIG | EXIT_STATE) {
            say(name, "starting again would end alike: waits for a change of the config, or to be started by hand");
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(self.stay()),
                Err(error) => say(name, &format!("no async runtime to wait with: {error}")),
            }
        }
        ExitCode::from(code)
    }

    async fn stay(&self) {
        tokio::select! {
            () = super::asked_to_stop() => {}
            () = changed(self.file.as_deref(), self.before, LOOK_EVERY) => {}
        }
    }
}

/// Where nobody can be told (a log on a full disk), the exit code still says it: `eprintln!` would panic.
fn say(name: &str, message: &str) {
    let _ = writeln!(std::io::stderr(), "{name}: {message}");
}

/// When a file was changed last; `None` where there is none.
fn changed_at(file: Option<&Path>) -> Option<SystemTime> {
    file?.metadata().ok()?.modified().ok()
}

async fn changed(file: Option<&Path>, before: Option<SystemTime>, every: Duration) {
    while changed_at(file) == before {
        tokio::time::sleep(every).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_changed_file_ends_it_and_one_that_appears_too() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("eddy.toml");
        let every = Duration::from_millis(1);
        for _ in 0..2 {
            let before = changed_at(Some(&file));
            let waiting = tokio::spawn({
                let file = file.clone();
                async move { changed(Some(&file), before, every).await }
            });
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!waiting.is_finished());
            std::fs::write(&file, "x").unwrap();
            waiting.await.unwrap();
        }
    }
}
