//! `eddy-index`.

fn main() -> std::process::ExitCode {
    eddy_runtime::program::run::<eddy_index::Index>()
}
