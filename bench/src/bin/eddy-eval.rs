//! `eddy-eval`.

fn main() -> std::process::ExitCode {
    eddy_bench::command::main()
}
