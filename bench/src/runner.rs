//! Measurements one after the other, each a command of its own in a process of its own: one that fails takes nothing with it.
//!
//! What a part says is kept as soon as it is there, so that a run that was broken off can be taken up.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    checkout,
    load::{binaries::Binaries, peer},
};

/// The longest that a part may take.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3_600);

/// A measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// What it is asked for by.
    pub(crate) name: &'static str,
    /// Whether it is `eddy-eval` that measures; else this program.
    pub(crate) by_eval: bool,
    /// Its command line.
    pub(crate) arguments: Vec<String>,
    /// About how long it takes.
    pub(crate) seconds: u64,
}

/// A part's name, its command line whole and small, and about how many seconds each takes (release build, two cores to itself).
pub(crate) type Planned = (&'static str, [&'static str; 2], [u64; 2]);

/// A command of this program. `subcommand` is its first word.
pub(crate) fn bench((name, lines, seconds): &Planned, small: bool) -> Part {
    let at = usize::from(small);
    let arguments = lines[at].split_whitespace().chain(["--json"]).map(str::to_owned).collect();
    Part { name, by_eval: false, arguments, seconds: seconds[at] }
}

/// A part that was measured, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Done {
    /// Whose figures these are: the programs, and the command line.
    build: String,
    arguments: Vec<String>,
    seconds: f64,
    figures: Value,
}

/// What was measured, by name in the order of the parts, and why the rest was not.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Figures.
    pub(crate) figures: Vec<(String, Value)>,
    /// Problems.
    pub(crate) failed: Vec<String>,
}

/// Runs parts.
#[derive(Debug)]
pub(crate) struct Runner<'a> {
    binaries: &'a Binaries,
    build: String,
    /// Where figures are kept.
    kept: PathBuf,
    /// A folder that is gone after the run.
    scratch: &'a Path,
    resume: bool,
}

impl<'a> Runner<'a> {
    /// `kept` is where figures are kept, and made; with `resume` what an earlier run of the same build left there is taken.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(crate) fn new(binaries: &'a Binaries, kept: PathBuf, scratch: &'a Path, resume: bool) -> Result<Self> {
        std::fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
        // The programs, and not the commit: that may go on while these stay.
        let build = format!("{} {}", binaries.profile(), binaries.made());
        Ok(Self { binaries, build, kept, scratch, resume })
    }

    /// All parts, after a word on what is to come.
    pub(crate) async fn all(&self, parts: &[Part]) -> Outcome {
        say(&format!("{} build of {}", self.binaries.profile(), checkout::described()));
        for part in parts {
            say(&format!("  {:<20} about {}", part.name, took(part.seconds)));
        }
        let mut outcome = Outcome::default();
        for (at, part) in parts.iter().enumerate() {
            let left = parts[at..].iter().map(|part| part.seconds).sum();
            say(&format!("{} of {}: {}; about {} left", at + 1, parts.len(), part.name, took(left)));
            match self.one(part).await {
                Ok(figures) => outcome.figures.push((part.name.to_owned(), figures)),
                Err(problem) => {
                    say(&format!("{} FAILED: {problem:#}", part.name));
                    outcome.failed.push(format!("{}: {problem:#}", part.name));
                }
            }
        }
        outcome
    }

    async fn one(&self, part: &Part) -> Result<Value> {
        let file = self.kept.join(format!("{}.json", part.name));
        let arguments = self.lasting(part);
        let earlier = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Done>(&text).ok());
        if let Some(done) = earlier
            && self.resume
            && done.build == self.build
            && done.arguments == arguments
        {
            say(&format!("{}: as it was measured before", part.name));
            return Ok(done.figures);
        }
        let program = if part.by_eval { self.binaries.eval() } else { self.binaries.bench.clone() };
        let began = Instant::now();
        let mut command = Command::new(program);
        // Folders of data stand in command lines; a gateway refuses variables that it does not know.
        command.args(&part.arguments).env_remove("EDDY_DATA");
        let figures = peer::figures(&mut command, TIMEOUT, self.scratch).await?;
        let seconds = began.elapsed().as_secs_f64().round();
        let done = Done { build: self.build.clone(), arguments, seconds, figures };
        std::fs::write(&file, serde_json::to_vec_pretty(&done)?).with_context(|| file.display().to_string())?;
        say(&format!("{}: done after {seconds:.0} s", part.name));
        Ok(done.figures)
    }

    /// A command line without where results go, which differs from run to run.
    fn lasting(&self, part: &Part) -> Vec<String> {
        let scratch = self.scratch.to_string_lossy();
        part.arguments.iter().filter(|text| !text.starts_with(&*scratch)).cloned().collect()
    }
}

fn took(seconds: u64) -> String {
    format!("{} min {:02} s", seconds / 60, seconds % 60)
}

/// Progress.
pub(crate) fn say(text: &str) {
    eprintln!("eddy-bench: {text}");
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A "bench" that prints its arguments as JSON, or fails when it is told to, and counts how often it ran.
    fn program(folder: &Path) {
        let text = "#!/bin/sh\necho >> \"$0.runs\"\n[ \"$1\" = fail ] && exit 3\necho \"{\\\"said\\\": \\\"$*\\\"}\"\n";
        for name in ["eddy", "eddy-capture", "eddy-preprocess", "eddy-embed", "eddy-detect", "eddy-index", "bench"] {
            std::fs::write(folder.join(name), text).unwrap();
            std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    #[tokio::test]
    async fn a_part_that_fails_leaves_the_others_and_what_was_measured_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        program(folder.path());
        let mut binaries = Binaries::of(folder.path()).unwrap();
        binaries.bench = folder.path().join("bench");
        let planned: [Planned; 3] =
            [("one", ["a", "b"], [1, 1]), ("two", ["fail", "fail"], [1, 1]), ("three", ["c d", "e"], [1, 1])];
        let parts: Vec<Part> = planned.iter().map(|planned| bench(planned, false)).collect();
        let run = async |resume| {
            let runner = Runner::new(&binaries, folder.path().join("kept"), folder.path(), resume).unwrap();
            runner.all(&parts).await
        };
        for (resume, runs) in [(false, 3), (true, 4), (false, 7)] {
            let outcome = run(resume).await;
            let said: Vec<_> =
                outcome.figures.iter().map(|(name, said)| (name.as_str(), said["said"].as_str())).collect();
            assert_eq!(said, [("one", Some("a --json")), ("three", Some("c d --json"))]);
            assert!(outcome.failed.len() == 1 && outcome.failed[0].starts_with("two: "), "{:?}", outcome.failed);
            // Only what failed is measured again.
            assert_eq!(std::fs::read_to_string(folder.path().join("bench.runs")).unwrap().len(), runs);
        }
    }
}
