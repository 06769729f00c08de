//! Every program in one file, which is each of them by the name that it is called by, as busybox does: `eddy-capture` is a link to it.
//!
//! Programs of their own share most of their code: notify and sync alone were 16 and 18 MB, this one of all is 61. What several processes have of one file
//! they also share in memory.

use std::{path::Path, process::ExitCode};

/// A program by its name.
type Main = fn() -> ExitCode;

const PROGRAMS: [(&str, Main); 12] = [
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
    ("eddy-drill", eddy_drill::command::main),
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

    #[test]
    fn every_program_is_linked_where_files_are_laid_out() {
        let script = include_str!("../../../compose/lay-out.sh");
        let line = script.lines().find_map(|line| line.trim_start().strip_prefix("for name in ")).unwrap_or_default();
        let linked: Vec<_> = line.trim_end_matches("; do").split(' ').collect();
        assert_eq!(linked, PROGRAMS.map(|(name, _)| name));
    }
}
