//! An alert finds the earlier episode of the same fault on another device.

use eddy_schemas::{
    alert::CloudEvent,
    episodes::{EpisodesAnswer, EpisodesRequest},
};

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    index::{fault_of, faults, indexed, opened, patterns, whole_fleet},
    recording::send,
    remembered::query,
};

/// The alerts of faults, with the pattern of each, in the order of time.
struct Told {
    alerts: Vec<CloudEvent>,
    faults: Vec<Option<usize>>,
    patterns: Vec<String>,
}

impl Told {
    fn pattern(&self, at: usize) -> Option<&str> {
        self.faults[at].map(|fault| self.patterns[fault].as_str())
    }

    fn is_of(&self, alert: &str, pattern: &str) -> bool {
        let at = self.alerts.iter().position(|event| event.data.alert == alert);
        at.is_some_and(|at| self.pattern(at) == Some(pattern))
    }

    /// The first alert of each fault that another device has shown before, with its pattern.
    fn asked(&self) -> Vec<(&CloudEvent, &str)> {
        let is_asked = |at: usize| {
            let (event, pattern) = (&self.alerts[at], self.pattern(at)?);
            let is_first = !self.faults[..at].contains(&self.faults[at]);
            let mut before = (0..at).filter(|other| self.pattern(*other) == Some(pattern));
            let shown = before.any(|other| self.alerts[other].data.device != event.data.device);
            (is_first && shown).then_some((event, pattern))
        };
        (0..self.alerts.len()).filter_map(is_asked).collect()
    }
}

async fn episodes(gateway: &Gateway, request: &EpisodesRequest) -> EpisodesAnswer {
    let request = serde_json::to_vec(request).unwrap();
    let answer = gateway.client.request(&format!("eddy.search.{SITE}.episodes"), request.into()).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_finds_the_earlier_episode_of_the_same_fault_on_another_device_first() {
    let mut gateway = Gateway::start(&ROOMY).await;
    gateway.start_stage("index");
    send(&gateway.client, &whole_fleet(), 5_000).await;
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    let mut alerts = opened(&gateway.client).await;
    alerts.sort_by_key(|event| eddy_schemas::time_of(&event.data.opened));
    let known = faults();
    let told =
        Told { faults: alerts.iter().map(|event| fault_of(&known, event)).collect(), patterns: patterns(), alerts };
    let (mut first, mut shown) = (0, None);
    let asked = told.asked();
    for (event, pattern) in &asked {
        let opened = eddy_schemas::time_of(&event.data.opened);
        let request = EpisodesRequest { others: true, until: opened, ..EpisodesRequest::new(&event.data.alert) };
        let answer = episodes(&gateway, &request).await;
        assert!(answer.asked.windows > 0 && answer.compared > 0, "{answer:?}");
        assert!(answer.episodes.iter().all(|one| one.device != event.data.device && Some(one.opened) < opened));
        assert!(answer.episodes.is_sorted_by(|a, b| a.distance <= b.distance));
        if told.is_of(&answer.episodes[0].alert, pattern) {
            first += 1;
            shown = shown.or(Some(event.data.alert.clone()));
        }
    }
    println!("{first} of {} faults find the same fault on another device first", asked.len());
    assert!(asked.len() >= 10 && 2 * first >= asked.len(), "{first} of {}", asked.len());

    let alert = shown.unwrap();
    let ran = query(&gateway, &["--like", &alert, "-k", "3"]);
    let text = String::from_utf8(ran.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 5 && lines[0].contains("asked") && lines[0].contains(&alert), "{text}");
    assert!(lines[1].contains('%') && lines[1].contains('▁') && lines[4].starts_with("3 of "), "{text}");
    let json = query(&gateway, &["--like", &alert, "--others", "--json"]);
    let json: EpisodesAnswer = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json.asked.alert == alert && json.episodes.iter().all(|one| one.device != json.asked.device));
    let windows = query(&gateway, &["--like", &alert, "--windows", "--channel", "voc", "-k", "2"]);
    assert!(String::from_utf8(windows.stdout).unwrap().contains("2 of "));
    let wrong = query(&gateway, &["--like", &alert, "--channel", "voc"]);
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("--windows"));
}
