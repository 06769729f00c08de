//! A webhook's receiver that fails when it is told to, and checks every signature.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Once,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use eddy_schemas::alert::{Alert, CloudEvent};
use ring::hmac;
use tokio::task::JoinHandle;

/// The key behind it is 32 times the letter k.
pub const SECRET: &str = "whsec_a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\n";

/// Told instead of a status: no answer at all.
pub const HANG: u16 = 0;

/// An event that was answered 2xx.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    pub id: String,
    pub device: String,
    pub body: Bytes,
    pub content_type: String,
}

#[derive(Default)]
struct Inner {
    taken: Mutex<Vec<Taken>>,
    status: AtomicU16,
    /// A status for one device.
    poison: Mutex<Option<(String, u16)>>,
    requests: AtomicU16,
}

/// The receiver.
pub struct Receiver {
    inner: Arc<Inner>,
    pub port: u16,
    task: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Answers 200 on a free port.
    pub async fn start() -> Self {
        let inner = Arc::new(Inner { status: AtomicU16::new(200), ..Inner::default() });
        let mut receiver = Self { inner, port: 0, task: None };
        receiver.listen().await;
        receiver
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// What every request is answered from now on; [`HANG`] for nothing.
    pub fn answer(&self, status: u16) {
        self.inner.status.store(status, Ordering::SeqCst);
    }

    /// What the requests about one device are answered.
    pub fn answer_about(&self, device: &str, status: u16) {
        *self.inner.poison.lock().unwrap() = Some((device.into(), status));
    }

    /// Refuses connections, and breaks those there are.
    pub async fn go_away(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Listens, on the port that it had.
    pub async fn listen(&mut self) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let routes = Router::new().route("/hook", post(take)).with_state(self.inner.clone());
        self.task = Some(tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }));
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.inner.taken.lock().unwrap().clone()
    }

    pub fn requests(&self) -> u16 {
        self.inner.requests.load(Ordering::SeqCst)
    }

    /// How often each id was taken.
    pub fn times(&self) -> BTreeMap<String, usize> {
        let mut times = BTreeMap::new();
        for taken in self.taken() {
            *times.entry(taken.id).or_default() += 1;
        }
        times
    }

    /// The ids of each device in the order in which they came first.
    pub fn in_order(&self) -> BTreeMap<String, Vec<String>> {
        let mut order = BTreeMap::<String, Vec<String>>::new();
        for taken in self.taken() {
            let ids = order.entry(taken.device).or_default();
            if !ids.contains(&taken.id) {
                ids.push(taken.id);
            }
        }
        order
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The ids of each device in the order in which they were raised.
pub fn order_of(events: &[CloudEvent]) -> BTreeMap<String, Vec<String>> {
    let mut order = BTreeMap::<String, Vec<String>>::new();
    for event in events {
        order.entry(event.data.device.clone()).or_default().push(event.id.clone());
    }
    order
}

async fn take(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    inner.requests.fetch_add(1, Ordering::SeqCst);
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let id = text("webhook-id");
    check_signature(&id, &text("webhook-timestamp"), &text("webhook-signature"), &body);
    let content_type = text("content-type");
    let device = if content_type.starts_with("application/cloudevents+json") {
        let event: CloudEvent = serde_json::from_slice(&body).unwrap();
        assert_eq!(event.id, id);
        event.data.device
    } else {
        assert_eq!((text("ce-id"), text("ce-specversion")), (id.clone(), "1.0".into()));
        serde_json::from_slice::<Alert>(&body).unwrap().device
    };
    let poison = inner.poison.lock().unwrap().clone().filter(|(poisoned, _)| *poisoned == device);
    let status = poison.map_or_else(|| inner.status.load(Ordering::SeqCst), |(_, status)| status);
    if status == HANG {
        tokio::time::sleep(Duration::from_secs(3_600)).await;
    }
    // As long as a receiver takes that stores what it takes.
    tokio::time::sleep(Duration::from_millis(5)).await;
    if (200..300).contains(&status) {
        inner.taken.lock().unwrap().push(Taken { id, device, body, content_type });
    }
    (StatusCode::from_u16(status).unwrap(), "as told").into_response()
}

/// As a receiver does it that knows the specification and nothing of eddy.
fn check_signature(id: &str, timestamp: &str, signature: &str, body: &[u8]) {
    assert!(timestamp.parse::<u64>().unwrap() > 1_700_000_000, "seconds: {timestamp}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[b'k'; 32]);
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    let encoded = signature.strip_prefix("v1,").unwrap();
    hmac::verify(&key, &signed, &decode_base64(encoded)).unwrap();
}

fn decode_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        bits = bits << 6 | LETTERS.iter().position(|known| *known == letter).unwrap() as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Asks with GET: the status and the text.
pub async fn get(url: &str) -> (u16, String) {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
