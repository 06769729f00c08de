//! MQTT: the last state of each device as a retained message, and every event if asked for.
//!
//! A delivery is a publish with QoS 1 and counts once its PUBACK is there. What makes it durable is the sink's own
//! position, not the broker's session: so the session is clean, and after a lost connection the sink brings again what was
//! not acknowledged. The states are kept with the position; on each connection they are published again before anything
//! newer, so that a broker that lost them (no persistence, a new machine) shows the right ones.
//!
//! A state is a function of one event alone: what is told twice, or again from the middle, ends in the same state.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use eddy_runtime::fresh::Fresh;
use eddy_schemas::alert::Phase;
use rumqttc::{AsyncClient, ConnectionError, Event as Turn, EventLoop, MqttOptions, Packet, PublishOptions, QoS};
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    backoff::Backoff,
    config::MqttConfig,
    event::Event,
    ledger::Kv,
    mqtt_options::follow,
    outlet::{Outlet, Verdict},
    sink::asked,
    topic::Template,
};

/// States that are remembered; those of further devices are published and not remembered.
const STATES_MAX: usize = 100_000;
/// Publishes that a connection takes before it pushes back.
const QUEUE_MAX: usize = 64;
/// Waits between two tries to connect.
const RECONNECT: Backoff = Backoff { min: Duration::from_millis(200), max: Duration::from_secs(20) };

/// A device's state, as it is retained.
#[derive(Serialize)]
struct State<'a> {
    state: &'static str,
    severity: &'static str,
    since: &'a str,
    time: &'a str,
    site: &'a str,
    device: &'a str,
    alert: &'a str,
    event: &'a str,
    phase: &'static str,
    score: f64,
    tail: f64,
}

/// The state that an event leaves its device in, as compact JSON.
fn state(event: &Event) -> Vec<u8> {
    let (cloud, alert) = (&event.cloud, &event.cloud.data);
    let closed = alert.phase == Phase::Closed;
    let state = State {
        state: if closed { "ok" } else { "alert" },
        severity: alert.severity.as_str(),
        since: if closed { &cloud.time } else { &alert.opened },
        time: &cloud.time,
        site: &alert.site,
        device: &alert.device,
        alert: &alert.alert,
        event: &cloud.id,
        phase: alert.phase.as_str(),
        score: alert.score,
        tail: alert.tail,
    };
    serde_json::to_vec(&state).expect("a State has string keys only, so it always serializes")
}

/// The connection as a delivery sees it.
#[derive(Clone)]
enum Link {
    Up(AsyncClient),
    Down(String),
}

/// A broker.
pub struct Mqtt {
    name: String,
    /// Each connection is made with what the files hold then.
    options: Fresh<MqttOptions>,
    state_topic: Template,
    event_topic: Option<Template>,
    republish: bool,
    timeout: Duration,
    states: Mutex<BTreeMap<String, Bytes>>,
    full: AtomicBool,
    link: watch::Sender<Link>,
}

impl Mqtt {
    /// Checks the config of a sink of `site` and reads the files that it names.
    ///
    /// # Errors
    /// Every problem.
    pub fn new(config: &MqttConfig, site: &str) -> Result<Self, Vec<String>> {
        let key = |name: &str| format!("notify.mqtt[{}].{name}", config.name);
        let mut problems = Vec::new();
        let mut template = |name: &str, text: &str, parse: fn(&str) -> Result<Template, String>| {
            parse(text).map_err(|error| problems.push(format!("{} = {text:?}: {error}", key(name)))).ok()
        };
        let state_topic = template("state_topic", &config.state_topic, Template::parse_of_state);
        let event_topic = match config.event_topic.as_str() {
            "" => None,
            text => template("event_topic", text, Template::parse),
        };
        let options = follow(config, site).map_err(|found| problems.extend(found)).ok();
        match (state_topic, options) {
            (Some(state_topic), Some(options)) if problems.is_empty() => Ok(Self {
                name: config.name.clone(),
                options,
                state_topic,
                event_topic,
                republish: config.republish,
                timeout: Duration::from_millis(config.timeout_ms),
                states: Mutex::default(),
                full: AtomicBool::new(false),
                link: watch::channel(Link::Down("not connected yet".into())).0,
            }),
            _ => Err(problems),
        }
    }

    /// Takes over the states that the sink kept.
    pub fn remember(&self, states: Vec<Kv>) {
        let mut known = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(states.into_iter().map(|(topic, payload)| (topic, Bytes::from(payload))));
    }

    /// Stays connected until `stop` says true.
    pub async fn stay_connected(&self, mut stop: watch::Receiver<bool>) {
        let mut tries = 0;
        loop {
            let problem = tokio::select! {
                problem = self.connection(&mut tries) => problem,
                () = asked(&mut stop) => return,
            };
            tries += 1;
            let wait = RECONNECT.wait(tries, &self.name);
            tracing::warn!(sink = self.name, problem, again_in_ms = wait.as_millis() as u64, "broker not connected");
            self.link.send_replace(Link::Down(problem));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = asked(&mut stop) => return,
            }
        }
    }

    /// One connection: until it ends, and why.
    async fn connection(&self, tries: &mut u32) -> String {
        let built = AsyncClient::builder(MqttOptions::clone(&self.options.get())).capacity(QUEUE_MAX).try_build();
        let (client, mut events) = match built {
            Ok(built) => built,
            Err(error) => return error.to_string(),
        };
        loop {
            match tokio::time::timeout(self.timeout, events.poll()).await {
                Ok(Ok(Turn::Incoming(Packet::ConnAck(_)))) => break,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return "no answer in time to the connection".into(),
            }
        }
        // Both go on side by side, and neither is cut off in the middle: the states cannot go out unless the connection is
        // polled.
        let (ended, ()) = tokio::join!(poll(&mut events), async {
            match self.publish_states(&client).await {
                Ok(states) => {
                    tracing::info!(sink = self.name, states, "broker connected");
                    *tries = 0;
                    self.link.send_replace(Link::Up(client.clone()));
                }
                Err(problem) => {
                    tracing::warn!(sink = self.name, problem, "states cannot be published again");
                    let _ = client.try_disconnect_now();
                }
            }
        });
        ended.to_string()
    }

    /// Publishes every state that is known; returns how many.
    async fn publish_states(&self, client: &AsyncClient) -> Result<usize, String> {
        if !self.republish {
            return Ok(0);
        }
        let states: Vec<_> = {
            let known = self.states.lock().unwrap_or_else(PoisonError::into_inner);
            known.iter().map(|(topic, payload)| (topic.clone(), payload.clone())).collect()
        };
        for some in states.chunks(QUEUE_MAX) {
            let all = some.iter().map(|(topic, payload)| self.publish(client, topic, payload.clone(), true));
            futures_util::future::try_join_all(all).await?;
        }
        Ok(states.len())
    }

    /// Publishes, and waits until the broker has it.
    async fn publish(&self, client: &AsyncClient, topic: &str, payload: Bytes, retain: bool) -> Result<(), String> {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(retain);
        let published = async {
            let notice = client.publish_tracked(topic, payload, options).await.map_err(|error| error.to_string())?;
            notice.wait_completion_async().await.map_err(|error| error.to_string())
        };
        match tokio::time::timeout(self.timeout, published).await {
            Ok(result) => result,
            Err(_) => {
                // A broker that is silent is asked anew.
                let _ = client.try_disconnect_now();
                Err(format!("the broker did not acknowledge within {} ms", self.timeout.as_millis()))
            }
        }
    }

    /// The connection, once there is one; waits as long as for an acknowledgement.
    async fn connected(&self) -> Result<AsyncClient, String> {
        let mut link = self.link.subscribe();
        let up = link.wait_for(|link| matches!(link, Link::Up(_)));
        let _ = tokio::time::timeout(self.timeout, up).await;
        match &*link.borrow() {
            Link::Up(client) => Ok(client.clone()),
            Link::Down(problem) => Err(problem.clone()),
        }
    }

    /// Keeps the state; the record that goes with the position, if there was room.
    fn keep(&self, topic: String, payload: Bytes) -> Option<Kv> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.len() >= STATES_MAX && !states.contains_key(&topic) {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    sink = self.name,
                    STATES_MAX,
                    "no room for states of further devices: not published again"
                );
            }
            return None;
        }
        states.insert(topic.clone(), payload.clone());
        Some((topic, payload.to_vec()))
    }
}

impl Outlet for Mqtt {
    async fn deliver(&self, event: &Event) -> Verdict {
        let client = match self.connected().await {
            Ok(client) => client,
            Err(problem) => return Verdict::retry(problem),
        };
        let alert = &event.cloud.data;
        let (topic, payload) = (self.state_topic.fill(alert), Bytes::from(state(event)));
        if let Some(template) = &self.event_topic
            && let Err(problem) = self.publish(&client, &template.fill(alert), event.json.clone(), false).await
        {
            return Verdict::retry(problem);
        }
        match self.publish(&client, &topic, payload.clone(), true).await {
            Ok(()) => Verdict::Delivered { keep: self.keep(topic, payload) },
            Err(problem) => Verdict::retry(problem),
        }
    }
}

async fn poll(events: &mut EventLoop) -> ConnectionError {
    loop {
        if let Err(error) = events.poll().await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::event;

    #[test]
    fn a_state_is_what_the_event_says() {
        let read = |phase| serde_json::from_slice::<serde_json::Value>(&state(&event(1, "a/b", phase))).unwrap();
        let opened = read(Phase::Opened);
        assert_eq!((&opened["state"], &opened["since"]), (&"alert".into(), &"2026-01-01T00:00:00Z".into()));
        assert_eq!((&opened["device"], &opened["alert"]), (&"a/b".into(), &"0123456789abcdef".into()));
        assert_eq!((&opened["severity"], &opened["score"]), (&"major".into(), &1.5.into()));
        assert_eq!(read(Phase::Updated)["state"], "alert");
        let closed = read(Phase::Closed);
        assert_eq!((&closed["state"], &closed["since"]), (&"ok".into(), &"2026-01-01T00:05:00Z".into()));
    }

    #[test]
    fn a_good_config_and_every_problem_of_a_bad_one() {
        crate::tls::install();
        let good = MqttConfig { name: "x".into(), url: "mqtt://[::1]".into(), ..MqttConfig::default() };
        let made = Mqtt::new(&good, "plant 1").unwrap();
        assert_eq!(made.options.get().client_id(), "eddy-plant%201-x");
        assert_eq!(made.options.get().broker().tcp_address(), Some(("::1", 1883)));
        let bad = MqttConfig {
            name: "x".into(),
            url: "mqtts://host".into(),
            state_topic: "eddy/#".into(),
            event_topic: "{x}".into(),
            password_file: "/nowhere/p".into(),
            tls_ca_file: "/nowhere/ca".into(),
            tls_cert_file: "/nowhere/cert".into(),
            ..MqttConfig::default()
        };
        let problems = Mqtt::new(&bad, "s").err().unwrap();
        for part in ["state_topic", "event_topic", "username", "tls_ca_file", "give both or neither"] {
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
        let plain = MqttConfig { url: "mqtt://host".into(), tls_ca_file: "/nowhere/ca".into(), ..good.clone() };
        assert!(Mqtt::new(&plain, "s").err().unwrap()[0].contains("mqtts:// is taken"));
        let wrong = MqttConfig { url: "mqtt://us-er:p!ss~w0rdMQ@127.0.0.1:9".into(), ..good };
        let told = Mqtt::new(&wrong, "s").err().unwrap().join(" ");
        assert!(told.contains("mqtt://host:1883") && told.contains("127.0.0.1:9"), "{told}");
        assert!(!told.contains("w0rdMQ") && !told.contains("us-er"), "{told}");
    }
}
