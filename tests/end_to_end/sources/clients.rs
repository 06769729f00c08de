//! Programs of others: found, started, and ended with the test.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use tokio::{io::AsyncWriteExt, process::Command};

use super::series::value;

/// A program on the path or where servers are; tells that the test is skipped if it is nowhere.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    let found = std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        println!("SKIPPED: {name} is not installed (apt-get install mosquitto mosquitto-clients curl openssl)");
    }
    found
}

/// A Python that has `module`: the one in `.tools/`, or the one beside nats-server.
pub fn python(module: &str) -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/py/bin/python");
    let server = std::env::var_os("EDDY_NATS_SERVER").map(PathBuf::from);
    let beside = server.map(|server| server.with_file_name("python"));
    let has = |python: &PathBuf| {
        let import = std::process::Command::new(python).args(["-c", &format!("import {module}")]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let found = std::iter::once(local).chain(beside).find(has);
    if found.is_none() {
        println!("SKIPPED: no Python with {module} in .tools/py (make tools installs it)");
    }
    found
}

/// One of the scripts in `tests/clients/`.
pub fn script(python: &Path, name: &str) -> Command {
    let mut command = program(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name));
    command
}

/// A program that ends with the test.
pub fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs to the end; fails if it failed.
pub async fn run(command: &mut Command) -> String {
    let output = command.output().await.unwrap();
    succeeded(&output);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs to the end with this on its standard input.
pub async fn run_with_input(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A program that ended early says why itself.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    succeeded(&child.wait_with_output().await.unwrap());
}

fn succeeded(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The values of all readings that a test may send, a line each, for clients in other languages.
pub fn values_file(folder: &Path) -> PathBuf {
    let file = folder.join("values.txt");
    let text: String = (0..20_000).map(|i| format!("{}\n", value(i))).collect();
    std::fs::write(&file, text).unwrap();
    file
}
