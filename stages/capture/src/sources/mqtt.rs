//! An MQTT client of any broker: a persistent session, and a PUBACK only once the message is in READINGS, on disk.
//!
//! MQTT has no way to refuse: what is wrong with a message goes to the dead letters, and counts as taken. The broker sends
//! again what was not acknowledged when the connection, capture or the broker went away, so a message may come twice:
//! readings with a time of their own then count once. An acknowledgement never outlives its connection, for a broker may give
//! a packet's number to another message after it.
//!
//! A *retained* message is no reading: the broker sends it whenever a subscription is made, on each connection, though it was
//! published long ago and once. It is acknowledged and let go. What is published while the subscription stands comes without
//! that flag (MQTT 3.1.1, 3.3.1.3), also after capture was away: nothing is lost by it.
//!
//! When the pipeline is full nothing is acknowledged and, past `inflight_max` messages in hand, nothing is read; the
//! broker keeps what it holds, by its own bounds.

use std::{sync::Arc, time::Duration};

use eddy_runtime::{
    direct::{Lane, NotStored},
    fresh::Fresh,
};
use futures_util::stream::{FuturesOrdered, StreamExt};
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, MqttOptions, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use tokio::sync::watch;

use super::{
    gate::{Gate, Origin},
    topic::{Named, Template},
};

/// Longest wait between two tries to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Bytes of a packet beside its payload: the topic and the fixed header.
const HEADER_BYTES_MAX: usize = 70_000;
/// Bytes of a payload: what capture takes.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broker {
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl Broker {
    /// Reads `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(url: &str) -> Result<Self, String> {
        let expected = "mqtt://host[:port] or mqtts://host[:port] is taken";
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            _ => return Err(expected.into()),
        };
        let default = if tls { 8883 } else { 1883 };
        let (host, port) = match rest.trim_end_matches('/').rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| format!("port {port:?} is none; {expected}"))?)
            }
            _ => (rest.trim_end_matches('/'), default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(format!("host {host:?} is none (user and password have keys of their own); {expected}"));
        }
        Ok(Self { host: host.to_owned(), port, tls })
    }
}

/// What the config asks for.
#[derive(Clone)]
pub(super) struct Settings {
    pub broker: Broker,
    pub topics: Vec<Template>,
    pub client_id: String,
    /// Empty: without user and password.
    pub username: String,
    pub secrets: Arc<Fresh<Secrets>>,
    pub keep_alive_s: u16,
    pub inflight_max: usize,
}

/// What lies in files, which may be replaced: each connection is made with what they hold then.
pub(super) struct Secrets {
    pub password: String,
    /// PEM; empty: the system's authorities.
    pub ca: Vec<u8>,
    /// Certificate and key, PEM.
    pub client_auth: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("broker", &self.broker).finish_non_exhaustive()
    }
}

/// Connects, and connects again, until `stop`.
pub(super) async fn run(settings: Settings, gate: Gate, mut stop: watch::Receiver<bool>) -> Result<(), String> {
    let mut backoff = Duration::from_millis(100);
    while !*stop.borrow_and_update() {
        let connected = session(&settings, options(&settings)?, &gate, &mut stop).await;
        match connected {
            Ok(()) => break,
            Err((lived, error)) => {
                let Broker { host, port, .. } = &settings.broker;
                tracing::warn!(host, port, %error, "the MQTT connection ended; connecting again");
                backoff = if lived { Duration::from_millis(100) } else { (backoff * 2).min(BACKOFF_MAX) };
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            _ = stop.changed() => {}
        }
    }
    Ok(())
}

fn options(settings: &Settings) -> Result<MqttOptions, String> {
    let Broker { host, port, tls } = &settings.broker;
    let mut options = MqttOptions::new(settings.client_id.clone(), (host.clone(), *port));
    options
        .set_keep_alive(settings.keep_alive_s)
        .set_clean_session(false)
        .set_ack_mode(AckMode::Manual)
        .set_max_packet_size(PAYLOAD_BYTES_MAX + HEADER_BYTES_MAX, HEADER_BYTES_MAX);
    let secrets = settings.secrets.get();
    if !settings.username.is_empty() {
        options.set_credentials(settings.username.clone(), secrets.password.clone());
    }
    if *tls {
        let transport = if secrets.ca.is_empty() {
            Transport::try_tls_with_default_config().map_err(|error| {
                format!("the system's authorities cannot be read ({error}): name one in capture.mqtt.tls_ca_file")
            })?
        } else {
            let (ca, client_auth) = (secrets.ca.clone(), secrets.client_auth.clone());
            Transport::Tls(TlsConfiguration::Simple { ca, alpn: None, client_auth })
        };
        options.set_transport(transport);
    }
    Ok(options)
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connection(#[from] Box<ConnectionError>),
    /// What is not acknowledged has to come again, in its order: the broker does that after a new connection.
    #[error("capture was interrupted")]
    NotStored,
}

/// One connection. Ends well if told to stop; else with whether it had come about, and why it ended.
async fn session(
    settings: &Settings,
    options: MqttOptions,
    gate: &Gate,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), (bool, Ended)> {
    // Room for every acknowledgement that can be due, and the subscription.
    let (client, mut events) = AsyncClient::builder(options).capacity(settings.inflight_max + 8).build();
    let (mut lived, lane) = (false, gate.lane());
    // In the order in which they came, for so they are acknowledged.
    let mut storing = FuturesOrdered::new();
    loop {
        let event = {
            // Not cut short: what it has read of a packet is its own.
            let mut next = Box::pin(events.poll());
            loop {
                tokio::select! {
                    event = &mut next, if storing.len() < settings.inflight_max => break event,
                    Some(stored) = storing.next(), if !storing.is_empty() => match stored {
                        Ok(publish) => acknowledge(&client, &publish),
                        Err(_) => return Err((lived, Ended::NotStored)),
                    },
                    _ = stop.changed() => return Ok(()),
                }
            }
        };
        match event.map_err(|error| (lived, Box::new(error).into()))? {
            Event::Incoming(Packet::ConnAck(_)) => {
                lived = true;
                let filter = |topic: &Template| SubscribeFilter::new(topic.filter(), QoS::AtLeastOnce);
                if let Err(error) = client.try_subscribe_many(settings.topics.iter().map(filter)) {
                    tracing::error!(%error, "subscribing failed");
                    return Err((false, Box::new(ConnectionError::RequestsDone).into()));
                }
                tracing::info!(client_id = settings.client_id, "MQTT broker connected");
            }
            Event::Incoming(Packet::SubAck(ack)) => {
                settings.topics.iter().zip(&ack.return_codes).for_each(|(topic, code)| subscribed(topic, *code));
            }
            Event::Incoming(Packet::Publish(publish)) if publish.retain => acknowledge(&client, &publish),
            // Unconstrained, or a burst would be handed in out of order, and so be late: when a task's budget is used up, tokio
            // wakes what it had put off last first.
            Event::Incoming(Packet::Publish(publish)) => {
                storing.push_back(tokio::task::unconstrained(store(gate, lane, &settings.topics, publish)));
            }
            _ => {}
        }
    }
}

fn subscribed(topic: &Template, code: SubscribeReasonCode) {
    let topic = topic.filter();
    match code {
        SubscribeReasonCode::Failure => {
            tracing::error!(topic, "the broker refuses the subscription: check its permissions");
        }
        SubscribeReasonCode::Success(QoS::AtMostOnce) => {
            tracing::error!(topic, "the broker grants QoS 0 only: what it sends while capture is away is lost");
        }
        SubscribeReasonCode::Success(_) => tracing::info!(topic, "subscribed"),
    }
}

fn acknowledge(client: &AsyncClient, publish: &Publish) {
    if let Err(error) = client.try_ack(publish) {
        // The broker sends it again.
        tracing::warn!(%error, "an MQTT acknowledgement is lost");
    }
}

async fn store(gate: &Gate, lane: Lane, topics: &[Template], publish: Publish) -> Result<Publish, NotStored> {
    let topic = String::from_utf8_lossy(&publish.topic);
    let Named { device, channel } = topics.iter().find_map(|known| known.read(&topic)).unwrap_or_default();
    let origin = Origin { device: device.as_deref(), channel: channel.as_deref(), ..Origin::default() };
    gate.store(lane, publish.payload.clone(), origin).await?;
    Ok(publish)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_read_from_its_url() {
        let broker = |host: &str, port, tls| Ok(Broker { host: host.into(), port, tls });
        assert_eq!(Broker::parse("mqtt://gw"), broker("gw", 1883, false));
        assert_eq!(Broker::parse("mqtts://gw.plant/"), broker("gw.plant", 8883, true));
        assert_eq!(Broker::parse("tcp://10.0.0.1:1884"), broker("10.0.0.1", 1884, false));
        assert_eq!(Broker::parse("mqtt://[::1]:1884"), broker("::1", 1884, false));
        assert_eq!(Broker::parse("mqtt://[::1]"), broker("::1", 1883, false));
        for wrong in ["", "gw:1883", "http://gw", "mqtt://", "mqtt://gw:x", "mqtt://u:p@gw"] {
            assert!(Broker::parse(wrong).is_err(), "{wrong}");
        }
    }
}
