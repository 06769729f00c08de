//! The console as it is asked over TCP, with views of the tests' own and a bus that only greets.

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use eddy_runtime::{
    client::{Client, Endpoint},
    listener::Bounded,
};
use eddy_schemas::alert::{Phase, Severity, Share};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};

use super::{
    access::Access,
    live::{Live, Numbered},
    routes::{self, Console, STREAMS_MAX},
};
use crate::{
    gateway::Gateway,
    watch::view::{AlertView, Incident, Known, Stretch, View},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct Served {
    address: SocketAddr,
    views: watch::Sender<Numbered>,
}

/// A bus that greets whoever connects, and answers nothing else.
async fn bus() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let info =
                    "INFO {\"server_id\":\"x\",\"version\":\"2.15.1\",\"max_payload\":4000000,\"headers\":true}\r\n";
                let _ = stream.write_all(info.as_bytes()).await;
                let mut said = [0; 4_096];
                while let Ok(length @ 1..) = stream.read(&mut said).await {
                    if said[..length].windows(4).any(|word| word == b"PING") {
                        let _ = stream.write_all(b"PONG\r\n").await;
                    }
                }
            });
        }
    });
    url
}

async fn serve(token_file: Option<&Path>) -> Served {
    let client = Client::connect(&Endpoint::new(bus().await, "test")).await.unwrap();
    let gateway = Gateway { client, site: "s".into(), file: None };
    let (views, seen) = watch::channel(Numbered::default());
    let access = Access::new("127.0.0.1".parse().unwrap(), &[], token_file).unwrap();
    let console = Console::new(Live::of(gateway, seen), access, "alice".into(), "nowhere".into());
    let listener = super::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let bounded = Bounded::new(listener, super::CONNECTIONS_MAX, PATIENCE);
    tokio::spawn(axum::serve(bounded, routes::routes(Arc::new(console))).into_future());
    Served { address, views }
}

impl Served {
    async fn send(&self, line: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request += &format!("Host: {}\r\n", self.address);
        }
        headers.iter().for_each(|(name, value)| request += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
        stream
    }

    /// The code, and the whole answer.
    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let headers = [headers, &[("Connection", "close")]].concat();
        let mut stream = self.send(line, &headers, body).await;
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        (answer[9..12].parse().unwrap(), answer)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path}"), &[], "").await
    }

    /// As our own page sends it.
    async fn act(&self, body: &str) -> (u16, String) {
        let origin = format!("http://{}", self.address);
        self.ask("POST /act", &[("Origin", &origin), ("Content-Type", "application/json")], body).await
    }
}

fn alert(id: &str) -> AlertView {
    let share = |n: usize| Share { name: format!("channel {n}"), share: 0.1 };
    let stretch = |n: u64| Stretch {
        device: "d".repeat(100),
        channel: "c".repeat(100),
        start: 0,
        end: 1,
        distance: 0.5,
        sequence: n,
        alert: None,
        label: Some("l".repeat(200)),
    };
    let neighbours = (0..20).map(stretch).collect();
    AlertView {
        alert: id.into(),
        device: "pump".into(),
        severity: Severity::Major,
        phase: Phase::Opened,
        opened: "2026-01-01T00:00:00Z".into(),
        told: "2026-01-01T00:00:00Z".into(),
        stored_at: 1,
        score: 2.0,
        tail_min: 1e-6,
        threshold: 1e-4,
        channels: (0..50).map(share).collect(),
        heads: vec![share(0)],
        bundle: "b".repeat(64),
        sequence: 1,
        known: Some(Known { text: "t".repeat(300), fault: None, window: stretch(0), neighbours }),
        label: None,
        acknowledged: None,
        suppressed: None,
    }
}

fn view(incidents: usize, alerts: usize) -> View {
    let mut view = View { site: "s".into(), ..View::default() };
    let one = |n: usize| Incident {
        device: format!("pump {n}"),
        cause: "bearing".into(),
        severity: Severity::Major,
        suppressed: None,
        open: alerts,
        unseen: alerts,
        alerts: (0..alerts).map(|k| alert(&format!("{n}-{k}"))).collect(),
    };
    view.alerts.incidents = (0..incidents).map(one).collect();
    view
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let served = serve(None).await;
    for path in [
        "/",
        "/style.css",
        "/console.js",
        "/incidents.js",
        "/machine.js",
        "/plot.js",
        "/dom.js",
        "/nothing",
        "/plots/x",
    ] {
        let (code, answer) = served.get(path).await;
        assert_eq!(code == 200, !["/nothing", "/plots/x"].contains(&path), "{path}: {code}");
        for part in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self' data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'\r\n",
            "x-content-type-options: nosniff\r\n",
            "referrer-policy: no-referrer\r\n",
            "cache-control: no-store\r\n",
        ] {
            assert!(answer.contains(part), "{path}: {part}");
        }
    }
}

#[test]
fn the_page_holds_nothing_that_the_policy_would_stop_and_makes_no_markup() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/console/page");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for bad in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "style=",
            " onclick",
            "eval(",
            "https:",
            "//cdn",
        ] {
            assert!(!text.contains(bad), "{}: {bad}", path.display());
        }
        // The namespace of SVG is a name, and asked nobody.
        let hosts = text.matches("http:").count();
        assert_eq!(hosts, text.matches("http://www.w3.org/2000/svg").count(), "{}", path.display());
    }
}

#[tokio::test]
async fn a_rebound_name_and_another_pages_request_are_refused() {
    let served = serve(None).await;
    for (host, expected) in [("evil.example", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("", 403)] {
        let (code, answer) = served.ask("GET /", &[("Host", host)], "").await;
        assert_eq!(code, expected, "{host:?}: {answer}");
    }
    let json = ("Content-Type", "application/json");
    let body = r#"{"act":"acknowledge","alerts":["x"]}"#;
    for headers in [
        vec![json],
        vec![json, ("Origin", "null")],
        vec![json, ("Origin", "http://evil.example")],
        vec![json, ("Origin", "http://127.0.0.1:1")],
    ] {
        let (code, answer) = served.ask("POST /act", &headers, body).await;
        assert!(code == 403 && answer.contains("own page"), "{headers:?}: {answer}");
    }
    let origin = format!("http://{}", served.address);
    let cross = [json, ("Origin", origin.as_str()), ("Sec-Fetch-Site", "cross-site")];
    assert_eq!(served.ask("POST /act", &cross, body).await.0, 403);
    assert_eq!(served.ask("GET /events", &[("Sec-Fetch-Site", "same-site")], "").await.0, 403);
    // A form cannot send JSON.
    let form = [("Origin", origin.as_str()), ("Content-Type", "text/plain")];
    assert_eq!(served.ask("POST /act", &form, body).await.0, 415);
    assert_eq!(served.act(body).await.0, 404, "our own page is heard");
}

#[tokio::test]
async fn with_a_token_every_request_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let put = |token: &str| {
        let mut new = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        new.write_all(token.as_bytes()).unwrap();
        new.persist(&file).unwrap();
    };
    put("correct-horse-battery\n");
    let served = serve(Some(&file)).await;
    for path in ["/", "/console.js", "/events", "/plots/x", "/receipts", "/nothing"] {
        let (code, answer) = served.get(path).await;
        assert_eq!((code, answer.contains("<form")), (401, path == "/"), "{path}");
    }
    assert_eq!(served.act("{}").await.0, 401);
    assert_eq!(served.get("/healthz").await.0, 200, "a health check knows no token");
    assert_eq!(served.ask("GET /", &[("Authorization", "Bearer correct-horse-batter")], "").await.0, 401);
    assert_eq!(served.ask("GET /", &[("Authorization", "Bearer correct-horse-battery")], "").await.0, 200);

    let origin = format!("http://{}", served.address);
    let login = async |token: &str| served.ask("POST /login", &[("Origin", &origin)], &format!("token={token}")).await;
    let (code, answer) = login("wrong").await;
    assert!(code == 401 && !answer.contains("set-cookie") && answer.contains("<form"), "{answer}");
    let (code, answer) = login("correct%2Dhorse-battery").await;
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert_eq!(code, 303);
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/;"), "{cookie}");
    let session = cookie.split(';').next().unwrap();
    assert!(!session.contains("correct"), "{session}");
    assert_eq!(served.ask("GET /", &[("Cookie", &format!("a=b; {session}"))], "").await.0, 200);
    assert_eq!(served.ask("GET /", &[("Cookie", &format!("{session}0"))], "").await.0, 401);
    // Changed in place, without a restart: who knew the old one is out.
    put("another-horse-battery");
    assert_eq!(served.ask("GET /", &[("Cookie", session)], "").await.0, 401);
    let bearer = [("Authorization", "Bearer another-horse-battery")];
    assert_eq!(served.ask("GET /", &bearer, "").await.0, 200);
    // A page that looks all the while is out too, and a file that holds no token lets nobody in.
    for gone in [true, false] {
        let mut page = served.send("GET /events", &[bearer[0], ("Connection", "close")], "").await;
        let mut head = [0; 12];
        page.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        if gone {
            std::fs::remove_file(&file).unwrap();
        } else {
            put("\n");
        }
        timeout(PATIENCE, page.read_to_end(&mut Vec::new())).await.expect("the page's stream ends").unwrap();
        for said in ["another-horse-battery", ""] {
            let bearer = format!("Bearer {said}");
            assert_eq!(served.ask("GET /", &[("Authorization", &bearer)], "").await.0, 401);
        }
        assert_eq!(login("").await.0, 401);
        put("another-horse-battery");
        assert_eq!(served.ask("GET /", &bearer, "").await.0, 200);
    }
}

#[tokio::test]
async fn bodies_filters_and_pages_have_bounds() {
    let served = serve(None).await;
    assert_eq!(served.act(&format!("{{\"act\":\"{}\"}}", "x".repeat(20_000))).await.0, 413);
    for bad in ["", "{}", r#"{"act":"format"}"#, r#"{"act":"label","alert":"x","label":"y","more":1}"#] {
        assert_eq!(served.act(bad).await.0, 400, "{bad}");
    }
    let none = r#"{"act":"maintain","device":"d","on":true,"minutes":0}"#;
    assert_eq!(served.act(none).await.0, 400);
    assert_eq!(served.act(r#"{"act":"acknowledge","alerts":[]}"#).await.0, 400);
    assert_eq!(served.get(&format!("/events?filter={}", "x".repeat(300))).await.0, 400);
    let mut pages = Vec::new();
    for _ in 0..STREAMS_MAX {
        let mut page = served.send("GET /events", &[], "").await;
        let mut head = [0; 12];
        page.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        pages.push(page);
    }
    assert_eq!(served.get("/events").await.0, 503);
    pages.clear();
    // It is known that they went at the next view.
    served.views.send_replace((1, Arc::default()));
    let freed = async {
        loop {
            let mut page = served.send("GET /events", &[], "").await;
            let mut head = [0; 12];
            page.read_exact(&mut head).await.unwrap();
            if &head == b"HTTP/1.1 200" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, freed).await.unwrap();
}

/// The numbers of the views in what a page was sent.
fn numbers(told: &str) -> Vec<u64> {
    told.lines().filter_map(|line| line.strip_prefix("id: ")).map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_page_sees_the_newest_view_and_who_reads_slowly_no_backlog() {
    let served = serve(None).await;
    let big = Arc::new(view(60, 6));
    let bytes = super::shown::json(1, &big, &super::shown::Asked::default()).len();
    served.views.send_replace((1, big.clone()));
    let mut page = served.send("GET /events", &[], "").await;
    let sent = 60;
    for number in 2..=sent {
        tokio::time::sleep(Duration::from_millis(120)).await;
        served.views.send_replace((number, big.clone()));
    }
    let mut told = String::new();
    let mut chunk = vec![0; 1 << 20];
    while !numbers(&told).contains(&sent) {
        let length = timeout(PATIENCE, page.read(&mut chunk)).await.unwrap().unwrap();
        told.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
    let seen = numbers(&told);
    println!("of {sent} views of {bytes} bytes, a page that did not read for 7 s was sent {seen:?}");
    // At most two a second in seven seconds; a page that read at once would have got fourteen.
    assert!(seen.is_sorted() && seen.len() < 10, "{seen:?}");
    assert!(told.contains("retry: 2000"), "{}", &told[..500]);
}

#[test]
fn a_view_is_bounded_however_much_alerts() {
    let json = |view: &View, filter: &str| {
        let asked = super::shown::Asked { who: "alice".into(), filter: filter.into() };
        super::shown::json(1, view, &asked)
    };
    let huge = view(500, 40);
    let text = json(&huge, "");
    println!("{} bytes of a view of 20,000 alerts", text.len());
    assert!(text.len() < 1_000_000, "{}", text.len());
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((told["open"]["all"].as_u64(), told["open"]["shown"].as_array().unwrap().len()), (Some(500), 50));
    assert_eq!(told["open"]["shown"][0]["all"], 40);
    // What is left out is found.
    let told: serde_json::Value = serde_json::from_str(&json(&huge, "PUMP 499 bearing")).unwrap();
    assert_eq!(
        (told["open"]["all"].as_u64(), told["open"]["shown"][0]["device"].as_str()),
        (Some(1), Some("pump 499"))
    );
    let told: serde_json::Value = serde_json::from_str(&json(&huge, "nothing such")).unwrap();
    assert_eq!(told["open"]["all"], 0);
}
