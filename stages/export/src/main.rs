//! The export process: `run`, `check` and `print-config` as every stage, `to` and `receipts` as `eddy export` gives them.

fn main() -> std::process::ExitCode {
    eddy_export::command::main()
}
