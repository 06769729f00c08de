//! Where it listens, and whom it answers, as a process.

use std::process::Command;

use eddy_tests::browser::http;

use super::Console;
use crate::{
    gateway::{Gateway, ROOMY},
    stage::binary,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_address_needs_a_token() {
    let gateway = Gateway::without_stages(&ROOMY).await;
    let url = gateway.server.url();
    let token = gateway.folder.path().join("token");
    let run = |listen: &str, more: &[&str]| {
        Command::new(binary("eddy")).args(["console", "--url", &url, "--listen", listen]).args(more).output().unwrap()
    };
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8087"] {
        let ran = run(listen, &[]);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(64) && said.contains("--token-file"), "{listen}: {said}");
    }
    std::fs::write(&token, "short").unwrap();
    let ran = run("0.0.0.0:0", &["--token-file", token.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.code() == Some(64) && said.contains("at least 16 bytes"), "{said}");

    std::fs::write(&token, "a-token-of-this-test").unwrap();
    // The last --listen counts.
    let console = Console::start_at("0.0.0.0:0", &["--url", &url, "--token-file", token.to_str().unwrap()]);
    let port = console.url.rsplit_once(':').unwrap().1;
    let client = http();
    let page = client.get(format!("http://127.0.0.1:{port}")).send().await.unwrap();
    assert_eq!(page.status(), 401);
    assert!(page.text().await.unwrap().contains("<form"));
    let asked = |path: &str, token: &str| {
        client.get(format!("http://127.0.0.1:{port}{path}")).header("Authorization", format!("Bearer {token}")).send()
    };
    assert_eq!(asked("console.js", "a-token-of-this-tesd").await.unwrap().status(), 401);
    assert_eq!(asked("console.js", "a-token-of-this-test").await.unwrap().status(), 200);
    assert_eq!(asked("events", "").await.unwrap().status(), 401);
}
