//! Pictures of a console that runs: `cargo run -p eddy-tests --example screenshots -- URL FOLDER`.
//!
//! They are `console-light.png` and `console-dark.png` of a desk's screen, and `console-phone.png`.
#![allow(clippy::unwrap_used)]

use eddy_tests::browser::{Browser, chromium};

/// Name, colours, size, pixels a point.
const PICTURES: [(&str, &str, (u32, u32), u32); 3] =
    [("light", "light", (1_280, 960), 1), ("dark", "dark", (1_280, 960), 1), ("phone", "light", (360, 780), 2)];

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(folder)) = (arguments.next(), arguments.next()) else {
        eprintln!("screenshots: URL and FOLDER are taken");
        std::process::exit(64);
    };
    if chromium().is_none() {
        eprintln!("screenshots: SKIPPED: chromium and chromedriver are not installed (make browser)");
        return;
    }
    std::fs::create_dir_all(&folder).unwrap();
    let browser = Browser::start().await;
    browser.go(&url).await;
    browser.wait("a view", "document.querySelector('#live').textContent === 'Live'").await;
    // A recording that has ended has nothing open: what is over is shown then.
    let unfold = "if (!document.querySelector('#open .alerts')) for (const one of [document.querySelector('#over-box'), \
                  document.querySelector('#over .alerts details')]) if (one) one.open = true;";
    browser.run(unfold).await;
    for (name, scheme, size, scale) in PICTURES {
        browser.look(scheme, size, scale).await;
        browser
            .wait("curves", "document.querySelector('.plots svg') || !document.querySelector('.alerts details[open]')")
            .await;
        // Rates need some seconds to be known, and curves are drawn anew for another width.
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        let path = format!("{folder}/console-{name}.png");
        std::fs::write(&path, browser.picture().await).unwrap();
        println!("{path}");
    }
}
