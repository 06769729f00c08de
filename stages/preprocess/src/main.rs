//! The preprocess stage as a process: READINGS in, SAMPLES out.

fn main() -> std::process::ExitCode {
    eddy_runtime::app::run::<eddy_preprocess::Preprocess>()
}
