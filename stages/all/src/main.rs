//! Every program in one file, which is each of them by the name that it is called by, as busybox does: `eddy-capture` is a link to it.
//!
//! Programs of their own share most of their code: together they take four times as much disk. What several processes have of one file
//! they also share in memory.

use std::{path::Path, process::ExitCode};

/// A program by its name.
type Main = fn() -> ExitCode;

const PROGRAMS: [(&str, Main); 11] = [
    ("eddy", eddy_cli::commands::main),
    ("eddy-capture", eddy_runtime::app::run_with::<eddy_capture::Capture, eddy_capture::Sources>),
    ("eddy-preprocess", eddy_runtime::app::run::<eddy_preprocess::Preprocess>),
    ("eddy-embed", eddy_runtime::app::run::<eddy_embed::Embed>),
    ("eddy-detect", eddy_runtime::app::run::<eddy_detect::Detect>),
    ("eddy-index", eddy_runtime::program::run::<eddy_index::Index>),
    ("eddy-notify", eddy_notify::app::main),
    ("eddy-sync", eddy_runtime::program::run::<eddy_sync::Sync>),
    ("eddy-export", eddy_export::command::main),
    ("eddy-hub", eddy_hub::main),
    ("eddy-eval", eddy_bench::command::main),
];

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned();
    match PROGRAMS.iter().find(|(program, _)| *program == name) {
        Some((_, program)) => program(),
        None => {
            for (program, _) in PROGRAMS {
                println!("{program}");
            }
            eprintln!("{name} is none of these programs: call it by the name of one, through a link to it");
            ExitCode::from(64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_stands_there_once() {
        let mut names: Vec<_> = PROGRAMS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROGRAMS.len());
    }
}
