//! A fault comes in as a device would send it, is seen with its curves, acknowledged and labelled, and all of that stays.

use std::time::Instant;

use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{Control, ControlKind};
use eddy_tests::browser::{Browser, key};
use futures_util::TryStreamExt as _;

use super::{Console, browser, is_by_itself};
use crate::{
    recording::{Device, fleet, send},
    up::{Up, config},
};

/// Rows that are learnt: the recording's first fault comes later.
const LEARNT: usize = 900;
const DEVICE: &str = "harbour-1";
const HAS_ALERT: &str = "document.querySelector('#open .incident')";
const HAS_PLOTS: &str = "document.querySelectorAll('#open .plots svg .curve').length >= 2";

/// The recording, and what the device sends when it is broken: a temperature that jumps.
fn device() -> (Device, Device) {
    let (learnt, mut next) = fleet(&[DEVICE], LEARNT + 40).remove(0).cut(LEARNT * 3);
    for (channel, _, value) in &mut next.readings {
        if channel == "temperature" {
            *value += 30.0;
        }
    }
    (learnt, next)
}

async fn controls(client: &Client) -> Vec<Control> {
    let messages = client.read("CONTROL", &[], ReadFrom::Start).await.unwrap();
    let all: Vec<_> = messages.try_collect().await.unwrap();
    all.iter().map(|message| Control::parse(&message.payload).unwrap()).collect()
}

/// Goes to a button by the tabulator, presses it, and waits for its dialog.
async fn open_dialog(browser: &Browser, button: &str) -> String {
    browser.tab_to(button).await;
    browser.keys(key::ENTER).await;
    browser.wait("the dialog", "document.querySelector('#dialog').open").await;
    browser.run("return document.querySelector('#dialog-what').textContent").await.as_str().unwrap().to_owned()
}

/// Presses the button that has the dialog's decision, and closes it once it is done; what was said.
async fn confirm(browser: &Browser) -> String {
    browser.tab_to("#dialog-yes").await;
    browser.keys(key::SPACE).await;
    browser.wait("done", "/^(Done|Failed)/.test(document.querySelector('#dialog-result').textContent)").await;
    let said = browser.run("return document.querySelector('#dialog-result').textContent").await;
    browser.keys(key::ESCAPE).await;
    browser.wait("no dialog", "!document.querySelector('#dialog').open").await;
    said.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_is_seen_acknowledged_and_labelled_by_keyboard_and_all_of_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "");
    let up = Up::start(&folder.path().join("g"), &config);
    let client = up.client().await;
    let (learnt, next) = device();
    send(&client, &[learnt], 300).await;
    up.wait_until_through(&client).await;
    let console = Console::of(&up.dir);
    let Some(browser) = browser("a_fault_is_seen", &console.url).await else { return };
    assert_eq!(browser.run(&format!("return {HAS_ALERT}")).await, serde_json::Value::Null, "nothing is wrong yet");

    let sent = Instant::now();
    send(&client, &[next], 3).await;
    let published = sent.elapsed();
    browser.wait("the alert", HAS_ALERT).await;
    let seen = sent.elapsed();
    browser.wait("its curves", HAS_PLOTS).await;
    println!(
        "published within {} ms (40 messages), in the page {} ms after the first was sent, its curves {} ms",
        published.as_millis(),
        seen.as_millis(),
        sent.elapsed().as_millis()
    );
    let facts = browser.run("return document.querySelector('#open .incident').innerText").await;
    assert!(facts.as_str().unwrap().contains(DEVICE) && facts.to_string().contains("temperature"), "{facts}");
    let words = browser.run("return document.querySelector('#open .plots svg').getAttribute('aria-label')").await;
    assert!(words.as_str().unwrap().contains("Window of harbour-1 temperature: "), "{words}");
    let of_score =
        browser.run("return document.querySelectorAll('#open .plots svg')[1].getAttribute('aria-label')").await;
    assert!(of_score.as_str().unwrap().contains("threshold"), "{of_score}");
    browser.wait("it is said once", "document.querySelector('#told').textContent.startsWith('New alert')").await;

    // From the first tabulator on, without a mouse.
    let alert = browser.run("return document.querySelector('#open [data-alert]').dataset.alert").await;
    let alert = alert.as_str().unwrap().to_owned();
    browser.keys(key::TAB).await;
    assert_eq!(browser.run("return document.activeElement.className").await, "skip");
    browser.keys(key::ENTER).await;
    let what = open_dialog(&browser, "[data-focus^='ack harbour-1']").await;
    assert!(what.contains(&format!("alice looks after 1 alert of {DEVICE}")) && what.contains(&alert), "{what}");
    let said = confirm(&browser).await;
    assert!(said.contains("1 alert is acknowledged by alice"), "{said}");
    browser
        .wait("seen by alice", "/acknowledged by alice/.test(document.querySelector('#open summary').textContent)")
        .await;
    assert_ne!(browser.run("return document.activeElement === document.body").await, true, "the focus is lost");

    open_dialog(&browser, &format!("[data-focus='label {alert}']")).await;
    browser.tab_to("#fault").await;
    browser.keys("bearing").await;
    let what = browser.run("return document.querySelector('#dialog-what').textContent").await;
    assert!(what.as_str().unwrap().contains("was the fault “bearing”"), "{what}");
    let said = confirm(&browser).await;
    assert!(said.contains("has the label bearing"), "{said}");
    let labelled =
        format!("/label bearing/.test(document.querySelector('[data-alert=\"{alert}\"] summary').textContent)");
    browser.wait("the label", &labelled).await;
    is_by_itself(&browser, &console.url).await;

    // The gateway comes back at another port: the page that is open finds it, and so does a new console.
    up.stop();
    browser.wait("that it is away", "/does not answer/.test(document.querySelector('#now').textContent)").await;
    let up = Up::start(&folder.path().join("g"), &config);
    let is_back = "!/does not answer/.test(document.querySelector('#now').textContent)";
    browser.wait("that it is back", &format!("{is_back} && {labelled}")).await;
    drop(console);
    browser
        .wait("that the console is away", "/^Not live since/.test(document.querySelector('#live').textContent)")
        .await;
    let console = Console::of(&up.dir);
    browser.go(&console.url).await;
    let both = format!(
        "{labelled} && /acknowledged by alice/.test(document.querySelector('[data-alert=\"{alert}\"]').innerText)"
    );
    browser.wait("both words", &both).await;

    let said: Vec<ControlKind> = controls(&up.client().await).await.into_iter().map(|control| control.kind).collect();
    let device = DEVICE.to_owned();
    assert_eq!(
        said,
        [
            ControlKind::Acknowledge { device: device.clone(), alert: alert.clone() },
            ControlKind::Label { device, alert: alert.clone(), label: "bearing".into() },
        ]
    );
    let log = up.dir.join("audit");
    let ran = tokio::task::block_in_place(|| {
        std::process::Command::new(crate::stage::binary("eddy")).arg("audit").arg("verify").arg(&log).output().unwrap()
    });
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && told.starts_with("sound: entries 1 to 2"), "{told}");
    let text: String = std::fs::read_dir(&log)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default())
        .collect();
    assert!(text.matches(r#""who":"console/alice""#).count() == 2 && text.contains(&alert), "{text}");
}
