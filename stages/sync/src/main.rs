//! `eddy-sync`.

fn main() -> std::process::ExitCode {
    eddy_runtime::program::run::<eddy_sync::Sync>()
}
