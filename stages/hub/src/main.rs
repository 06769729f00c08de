//! `eddy-hub`.

fn main() -> std::process::ExitCode {
    eddy_hub::main()
}
