//! Gateways that are none: what they send is refused by the server or by the hub, said so in the audit log, and nothing of it is kept.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use async_nats::jetstream;
use eddy_cli::demo::region::oracle::id;
use eddy_schemas::{
    region::API_PREFIX,
    sync::wire::{Batch, Class},
};
use prost::Message as _;

use super::{
    PATIENCE,
    forged::Forger,
    hub,
    machine::{Machine, eddy},
};

const SITE: &str = "plant 1";
const SUBJECT: &str = "sync.plant%201.alerts";

/// A region, and a gateway whose chain has two alerts.
struct Setting {
    machine: Machine,
    gateway: async_nats::Client,
    forger: Forger,
    last: Batch,
}

impl Setting {
    async fn new() -> Self {
        let machine = Machine::start(&[SITE, "other"]);
        let gateway = machine.connect("site-plant%201", "_INBOX.plant%201").await;
        let mut setting = Self { machine, gateway, forger: Forger::new(SITE), last: Batch::default() };
        // The hub makes the streams; who comes before that is told that there is none.
        let deadline = Instant::now() + PATIENCE;
        while jetstream::with_prefix(setting.gateway.clone(), API_PREFIX).get_stream("SITE_plant%201").await.is_err() {
            assert!(Instant::now() < deadline, "{}", setting.machine.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for _ in 0..2 {
            setting.send_right().await;
        }
        setting.wait_for_alerts(2).await;
        setting
    }

    /// The batch that is due.
    async fn send_right(&mut self) {
        let batch = self.forger.batch(1);
        self.publish(SUBJECT, batch.encode_to_vec()).await.unwrap();
        self.forger.sent(&batch);
        self.last = batch;
    }

    /// What the server says to a message.
    async fn publish(&self, subject: &str, payload: Vec<u8>) -> Result<u64, String> {
        let context = jetstream::ContextBuilder::new().timeout(Duration::from_secs(5)).build(self.gateway.clone());
        let sent = context.publish(subject.to_owned(), payload.into()).await.map_err(|error| error.to_string())?;
        sent.await.map(|ack| ack.sequence).map_err(|error| error.to_string())
    }

    /// The ids of the alerts that the region holds.
    fn alerts(&self, site: &str) -> Vec<String> {
        let Some(copy) = hub::open(&self.machine.copy()) else { return Vec::new() };
        let mut ids: Vec<String> = hub::alerts(&[copy], site).iter().map(|alert| id(alert).unwrap()).collect();
        ids.sort();
        ids
    }

    async fn wait_for_alerts(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.alerts(SITE).len() < count {
            assert!(Instant::now() < deadline, "{:?}\n{}", self.alerts(SITE), self.machine.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the audit log tells of `outcome` with these words in it.
    async fn wait_for_audit(&self, outcome: &str, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = std::fs::read_to_string(self.machine.audit().join("audit.jsonl")).unwrap_or_default();
            let tells = |line: &str| {
                let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                let is = |key: &str, value: &str| entry[key].as_str().is_some_and(|text| text.contains(value));
                is("outcome", outcome) && is("detail", words) && is("who", SITE)
            };
            if log.lines().any(tells) {
                return;
            }
            assert!(Instant::now() < deadline, "{outcome}: {words}\n{log}\n{}", self.machine.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_follow_is_refused_and_audited_and_what_follows_is_taken() {
    let mut setting = Setting::new().await;
    let before = setting.alerts(SITE);
    let due = setting.forger.batch(1);
    let with = |change: &dyn Fn(&mut Batch)| {
        let mut batch = due.clone();
        change(&mut batch);
        batch.encode_to_vec()
    };
    let mut damaged = due.encode_to_vec();
    let at = damaged.windows(4).position(|bytes| bytes == [0x28, 0xb5, 0x2f, 0xfd]).unwrap() + 12;
    damaged[at] ^= 1;
    let replayed = setting.last.encode_to_vec();
    for (what, payload, outcome, words) in [
        ("a batch that came before", replayed, "replayed", "batch 2"),
        ("another one in its place", with(&|batch| batch.number = 2), "refused", "batch 2"),
        ("one that hangs on another", with(&|batch| batch.previous = vec![1; 32].into()), "refused", "follows a batch"),
        ("one that comes too early", with(&|batch| batch.number = 4), "refused", "batch 4"),
        ("one with a hole before it", with(&|batch| (batch.first, batch.last) = (9, 9)), "refused", "9"),
        ("another gateway's", with(&|batch| batch.chain = vec![8; 16].into()), "refused", "chain"),
        ("another site's", with(&|batch| batch.site = "other".into()), "refused", "other"),
        ("another class's", with(&|batch| batch.class = Class::Health.into()), "refused", "health"),
        ("one that would fill the memory", with(&|batch| batch.entries_bytes = u32::MAX), "refused", "at most"),
        ("one that was changed on the way", damaged, "refused", "entries"),
        ("rubbish", b"rubbish".to_vec(), "refused", "not a batch"),
    ] {
        setting.publish(SUBJECT, payload).await.unwrap_or_else(|problem| panic!("{what}: {problem}"));
        setting.wait_for_audit(outcome, words).await;
        assert_eq!(setting.alerts(SITE), before, "{what}");
    }
    // The chain is where it was, and goes on.
    setting.send_right().await;
    setting.wait_for_alerts(3).await;
    assert_eq!(setting.alerts("other"), Vec::<String>::new());
    let log = setting.machine.audit();
    let verified = eddy(&["audit", "verify", log.to_str().unwrap()]);
    assert!(verified.status.success(), "{verified:?}");
    // A log in which a word was changed is not sound.
    let copy = setting.machine.folder.path().join("audit.jsonl");
    let text = std::fs::read_to_string(log.join("audit.jsonl")).unwrap();
    std::fs::write(&copy, text.replacen("refused", "rejoiced", 1)).unwrap();
    let verified = eddy(&["audit", "verify", copy.to_str().unwrap()]);
    assert_eq!(verified.status.code(), Some(1), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_another_sites_or_too_large_never_gets_in() {
    let setting = Setting::new().await;
    let mut other = Forger::new("other");
    let batch = other.batch(1);
    assert!(setting.publish("sync.other.alerts", batch.encode_to_vec()).await.is_err());
    // Not even on the own subject: it does not say that it is the other's.
    setting.publish(SUBJECT, batch.encode_to_vec()).await.unwrap();
    setting.wait_for_audit("refused", "other").await;
    assert!(setting.publish(SUBJECT, vec![0; 5 << 20]).await.is_err(), "larger than the server takes");
    assert_eq!((setting.alerts("other").len(), setting.alerts(SITE).len()), (0, 2));
    // The other one's own word is taken.
    let gateway = setting.machine.connect("site-other", "_INBOX.other").await;
    let context = jetstream::new(gateway);
    context.publish("sync.other.alerts", batch.encode_to_vec().into()).await.unwrap().await.unwrap();
    other.sent(&batch);
    let deadline = Instant::now() + PATIENCE;
    while setting.alerts("other").len() != 1 {
        assert!(Instant::now() < deadline, "{}", setting.machine.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_without_a_certificate_of_the_regions_ca() {
    let setting = Setting::new().await;
    let others = tempfile::tempdir().unwrap();
    let made = eddy(&["certs", "--out", others.path().to_str().unwrap(), "--site", SITE]);
    assert!(made.status.success(), "{made:?}");
    let knock = async |certificate: Option<&Path>| {
        let mut options = async_nats::ConnectOptions::new()
            .add_root_certificates(setting.machine.certs().join("ca.pem"))
            .require_tls(true)
            .connection_timeout(Duration::from_secs(5));
        if let Some(folder) = certificate {
            let file = |extension: &str| folder.join(format!("site-plant%201.{extension}"));
            options = options.add_client_certificate(file("pem"), file("key"));
        }
        options.connect(setting.machine.url()).await
    };
    assert!(knock(None).await.is_err(), "without one");
    assert!(knock(Some(others.path())).await.is_err(), "with one of another CA");
    assert!(knock(Some(&setting.machine.certs())).await.is_ok(), "with its own");
}
