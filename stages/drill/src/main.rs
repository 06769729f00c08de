//! What `eddy drill` hands over to.

fn main() -> std::process::ExitCode {
    eddy_drill::command::main()
}
