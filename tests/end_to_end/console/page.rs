//! The page with much in it: hostile names, no accessibility fault, small and dark screens, a focus that stays.

use std::path::Path;

use eddy_schemas::{
    Control, ControlKind,
    alert::{Alert, CloudEvent, Phase, Severity, Share},
    context::{Context, Verdict},
    health::{Condition, Health},
    names,
    search::{FoundLabel, FoundWindow},
};
use eddy_tests::browser::{Browser, key};
use serde_json::Value;

use super::{Console, browser, is_by_itself};
use crate::gateway::{Gateway, ROOMY, SITE};

/// Names as nobody should give them.
const HOSTILE: [&str; 5] = [
    "<img src=x onerror=document.title='pwned'>",
    "\"><script>document.title='pwned'</script>",
    "pump \u{202e}lamron",
    "javascript:document.title='pwned'//{{7*7}}",
    "wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
];

fn event(id: usize, device: &str, channel: &str, severity: Severity) -> CloudEvent {
    let share = |name: &str, share| Share { name: name.into(), share };
    let alert = Alert {
        alert: format!("{id:016x}"),
        phase: Phase::Opened,
        severity,
        site: SITE.into(),
        device: device.into(),
        opened: "2026-01-01T00:00:00Z".into(),
        score: 3.5,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![share(channel, 0.7), share("other", 0.3)],
        heads: vec![share("value", 1.0)],
        bundle: "b".repeat(64),
    };
    CloudEvent::new(alert, 0, "2026-01-01T00:00:00Z".into())
}

fn window(device: &str, channel: &str, label: Option<&str>) -> FoundWindow {
    let label = label.map(|name| FoundLabel { name: name.into(), origin: HOSTILE[0].into(), time: 1 });
    FoundWindow {
        window: 1,
        device: device.into(),
        channel: channel.into(),
        start: 0,
        end: 3_600_000_000_000,
        distance: 0.5,
        score: 1.0,
        filled: 1,
        sequence: 1,
        alert: None,
        label,
    }
}

async fn publish(gateway: &Gateway, subject: &str, payload: Vec<u8>) {
    gateway.client.publish(subject, &[("Content-Type", "application/json")], payload.into()).await.unwrap();
}

async fn say(gateway: &Gateway, kind: ControlKind, n: usize) {
    let control = Control { id: format!("t{n}"), origin: HOSTILE[0].into(), time: 1, kind };
    publish(gateway, &format!("control.{SITE}.{}", control.subject_token()), control.to_json().into()).await;
}

/// A gateway without stages that holds much to be seen.
async fn full() -> Gateway {
    let gateway = Gateway::without_stages(&ROOMY).await;
    for (n, name) in HOSTILE.into_iter().enumerate() {
        let severity = [Severity::Minor, Severity::Major, Severity::Critical][n % 3];
        let event = event(n, name, HOSTILE[(n + 1) % 5], severity);
        publish(&gateway, &event.nats_subject(), event.to_json()).await;
        let context = Context {
            alert: event.data.alert.clone(),
            site: SITE.into(),
            device: name.into(),
            opened: event.data.opened.clone(),
            verdict: Verdict::Fault { name: HOSTILE[0].into(), votes: 3, tier: Default::default() },
            text: format!("matches fault {}", HOSTILE[1]),
            window: window(name, HOSTILE[1], None),
            neighbours: vec![window(HOSTILE[1], name, Some(HOSTILE[0]))],
            windows: 9,
            bundle: "b".repeat(64),
            region: None,
        };
        let token = names::encode(name);
        publish(&gateway, &format!("context.{SITE}.{token}"), serde_json::to_vec(&context).unwrap()).await;
        let health = Health {
            device: name.into(),
            channel: Some(name.into()),
            condition: Condition::Stuck,
            active: true,
            since: 1,
            value: 2.0,
        };
        publish(&gateway, &format!("health.{SITE}.{token}"), serde_json::to_vec(&health).unwrap()).await;
    }
    let label =
        ControlKind::Label { device: HOSTILE[0].into(), alert: format!("{:016x}", 0), label: HOSTILE[1].into() };
    say(&gateway, label, 0).await;
    say(&gateway, ControlKind::Acknowledge { device: HOSTILE[1].into(), alert: format!("{:016x}", 1) }, 1).await;
    say(&gateway, ControlKind::Maintenance { device: HOSTILE[4].into(), on: true, until: None }, 2).await;
    gateway
}

async fn open(test: &str) -> Option<(Gateway, Console, Browser)> {
    let gateway = full().await;
    let console = Console::start(&["--url", &gateway.server.url(), "--site", SITE]);
    let browser = browser(test, &console.url).await?;
    browser.wait("all incidents", "document.querySelectorAll('.incident').length === 5").await;
    browser.wait("conditions", "document.querySelectorAll('#conditions tbody tr').length === 5").await;
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })").await;
    Some((gateway, console, browser))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_name_is_text() {
    let Some((_gateway, console, browser)) = open("a_hostile_name_is_text").await else { return };
    browser.tab_to("[data-focus^='label ']").await;
    browser.keys(key::ENTER).await;
    let foreign = browser
        .run("return document.querySelectorAll('img, script:not([src=\"console.js\"]), iframe, a:not(.skip)').length")
        .await;
    assert_eq!(foreign, 0);
    let title = browser.run("return document.title").await;
    assert!(!title.as_str().unwrap().contains("pwned"), "{title}");
    let text = browser.run("return document.body.innerText").await;
    let text = text.as_str().unwrap();
    for name in [HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[4], "pump \\u{202e}lamron"] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    assert!(!text.contains('\u{202e}'), "text is turned around");
    is_by_itself(&browser, &console.url).await;
}

/// What axe-core finds, by rule with the elements.
async fn violations(browser: &Browser, axe: &str) -> Vec<String> {
    browser.run(axe).await;
    let found = browser.run_async("const done = arguments[0]; axe.run().then((told) => done(told.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html.slice(0, 200) + ' ' + node.failureSummary).join(' | ')}`)))").await;
    let found: Vec<Value> = found.as_array().unwrap().clone();
    found.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_no_accessibility_fault_in_light_dark_and_at_phone_width() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/axe.min.js");
    let Ok(axe) = std::fs::read_to_string(&file) else {
        println!("SKIPPED there_is_no_accessibility_fault: {} is not there (make browser)", file.display());
        return;
    };
    let Some((_gateway, _console, browser)) = open("there_is_no_accessibility_fault").await else { return };
    for (scheme, size) in [("light", (1_280, 900)), ("dark", (1_280, 900)), ("light", (360, 740)), ("dark", (360, 740))]
    {
        browser.look(scheme, size, 1).await;
        let dark = browser.run("return matchMedia('(prefers-color-scheme: dark)').matches").await;
        assert_eq!((dark == true, browser.run("return innerWidth").await), (scheme == "dark", size.0.into()));
        let found = violations(&browser, &axe).await;
        assert!(found.is_empty(), "{scheme} {size:?}: {found:#?}");
        let width = browser.run("return document.documentElement.scrollWidth").await;
        assert!(width.as_u64().unwrap() <= size.0.into(), "{size:?}: the page is {width} wide");
        for button in ["[data-focus^='label ']", "[data-focus='maintain']", "[data-focus^='ack ']"] {
            browser.tab_to(button).await;
            browser.keys(key::ENTER).await;
            browser.wait("the dialog", "document.querySelector('#dialog').open").await;
            let found = violations(&browser, &axe).await;
            assert!(found.is_empty(), "{button} {scheme} {size:?}: {found:#?}");
            browser.keys(key::ESCAPE).await;
            browser.wait("the focus back", &format!("document.activeElement.matches({button:?})")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_the_focus_keeps_it_while_alerts_come() {
    let Some((gateway, _console, browser)) = open("what_has_the_focus_keeps_it").await else { return };
    browser.tab_to("[data-focus^='label ']").await;
    let before = browser.run("window.held = document.activeElement; return window.held.dataset.focus").await;
    for (n, letter) in ('a'..='j').enumerate() {
        let event = event(100 + n, &format!("new-{letter}"), "t", Severity::Critical);
        publish(&gateway, &event.nats_subject(), event.to_json()).await;
    }
    browser
        .wait("the new ones first", "document.querySelector('#open .incident bdi').textContent.startsWith('new')")
        .await;
    browser.wait("all of them", "document.querySelectorAll('.incident').length === 15").await;
    let same = browser.run("return document.activeElement === window.held && window.held.isConnected").await;
    assert_eq!(same, true, "{before}");
    // The filter is asked of the console, and what is typed stays.
    browser.run("document.querySelector('#filter').focus()").await;
    browser.keys("t new-h").await;
    browser.wait("one", "document.querySelectorAll('.incident').length === 1").await;
    let typed = browser.run("return document.activeElement.value").await;
    assert_eq!(typed, "t new-h");
}
