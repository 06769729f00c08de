//! `eddy console`: as it is asked over HTTP, and as somebody uses it in a browser, by keyboard alone.

mod access;
mod fault;
mod page;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use eddy_tests::browser::{Browser, chromium};

use crate::stage::binary;

/// A console that runs; killed when dropped.
struct Console {
    child: Child,
    /// With a slash at its end.
    url: String,
}

impl Console {
    /// On a free port, with more arguments.
    fn start(arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", arguments)
    }

    fn start_at(listen: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary("eddy"));
        command.args(["console", "--listen", listen, "--as", "alice"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said = line.split_whitespace().find(|word| word.starts_with("http://"));
        Self { url: said.unwrap_or_else(|| panic!("{line:?}")).to_owned(), child }
    }

    /// Of the gateway in a folder.
    fn of(dir: &Path) -> Self {
        Self::start(&["--dir", dir.to_str().unwrap()])
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser that looks at a console; `None`, and said, where there is none.
async fn browser(test: &str, url: &str) -> Option<Browser> {
    if chromium().is_none() {
        println!("SKIPPED {test}: chromium or chromedriver is not installed (make browser)");
        return None;
    }
    let browser = Browser::start().await;
    browser.go(url).await;
    browser.wait("a view", "document.querySelector('#live').textContent === 'Live'").await;
    Some(browser)
}

/// Nothing but the console was asked, and nothing was stopped by its policy or went wrong in the page.
async fn is_by_itself(browser: &Browser, url: &str) {
    let requested = browser.requested().await;
    assert!(requested.iter().any(|address| address == url), "the log has nothing: {requested:?}");
    // What a browser shows before it is told where to go is inside of it.
    let is_inside = |address: &str| address.starts_with("chrome://") || address.starts_with("data:");
    let others: Vec<_> = requested.iter().filter(|address| !address.starts_with(url) && !is_inside(address)).collect();
    assert!(others.is_empty(), "asked elsewhere: {others:?}");
    let told = browser.log("browser").await;
    let bad: Vec<_> = told
        .iter()
        .filter(|entry| entry.to_string().contains("Content Security Policy") || entry["source"] == "javascript")
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
}
