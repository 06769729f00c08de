//! What senders are told when something is wrong, and that nothing of what was refused is stored.

use std::{io::Write, time::Duration};

use eddy_schemas::side::Reason;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    http::{self, Answer},
    series::{BASE_S, readings, series},
    site::{Plan, Site, TOKEN},
};
use crate::{gateway::SITE, oracle::dead_letters};

const WRITE: &str = "/api/v2/write";
const LINES: &str = "text/plain; charset=utf-8";

async fn capture_only(http: &str) -> Site {
    Site::start(Plan { capture_only: true, http, ..Plan::default() }).await
}

async fn stored(site: &Site) -> Vec<(String, i64, f64)> {
    readings(&site.gateway.client).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn packed(site: &Site, encoding: &str, body: &[u8]) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Encoding", encoding)];
    http::request(site.port, "POST", WRITE, &headers, body).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_line_is_named_and_the_good_ones_are_stored() {
    let site = capture_only("").await;
    let body = format!(
        "t,device=d value=1 {BASE_S}000000000\nno line at all\nt,device=d value=2 {}000000000\nt value=3\n\
         t,device=d value=\"warm\" {BASE_S}000000000\n",
        BASE_S + 1
    );
    let answer = site.post(WRITE, LINES, body).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    let told = answer.json();
    assert_eq!((told["code"].as_str(), told["stored"].as_u64()), (Some("invalid"), Some(2)));
    assert!(answer.message().starts_with("partial write: 2 readings stored; line 2: "), "{}", answer.message());
    let details: Vec<&str> =
        told["rejected"].as_array().unwrap().iter().map(|one| one["detail"].as_str().unwrap()).collect();
    assert!(details[0].starts_with("line 2: ") && details[0].contains("no line at all"), "{details:?}");
    assert!(
        details[1].starts_with("line 4: no device") && details[1].contains("line_protocol_device_tags"),
        "{details:?}"
    );
    assert!(details[2].starts_with("line 5: ") && details[2].contains("\"warm\""), "{details:?}");
    assert_eq!(details.len(), 3);
    let values: Vec<f64> = stored(&site).await.iter().map(|(.., value)| *value).collect();
    assert_eq!(values, [1.0, 2.0]);
    // What is wrong lies in the dead letters too, for whoever does not read answers.
    let letters = dead_letters(&site.gateway.client).await;
    assert_eq!(
        letters.iter().map(|letter| letter.rejection.reason).collect::<Vec<_>>(),
        [Reason::Malformed, Reason::InvalidField, Reason::InvalidField]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_whole_is_told_and_nothing_of_it_is_stored() {
    let site = capture_only("body_bytes_max = 20000").await;
    let good = b"t,device=d value=1 1767571200000000000\n";
    let check = |answer: Answer, status: u16, said: &str| {
        assert_eq!(answer.status, status, "{said}: {answer:?}");
        assert!(answer.message().contains(said), "{said}: {answer:?}");
    };
    // Who may write.
    for token in [None, Some("Token wrong"), Some("s3cret"), Some("Basic czNjcmV0")] {
        let headers: Vec<(&str, &str)> = token.iter().map(|token| ("Authorization", *token)).collect();
        let answer = http::request(site.port, "POST", WRITE, &headers, good).await.unwrap();
        check(answer, 401, "Authorization header");
    }
    // Size: as it comes, and unpacked. A megabyte of zeros is a kilobyte of gzip.
    check(site.post(WRITE, LINES, vec![b'#'; 20_001]).await, 413, "20000 bytes (capture.http.body_bytes_max)");
    check(site.post(WRITE, LINES, vec![b'#'; 4_000_000]).await, 413, "20000 bytes");
    check(packed(&site, "gzip", &gzip(&vec![0; 1_000_000])).await, 413, "20000 bytes");
    // Encodings.
    check(packed(&site, "gzip", b"not packed").await, 400, "no gzip");
    let cut = gzip(good);
    check(packed(&site, "gzip", &cut[..cut.len() - 6]).await, 400, "no gzip");
    check(packed(&site, "br", good).await, 415, "\"br\" is not read");
    // Formats.
    check(site.post("/ingest", "image/png", b"x").await, 400, "image/png");
    check(site.post("/ingest?device=d", "application/json", b"[{\"t\":1},").await, 400, "not JSON");
    check(site.post(WRITE, LINES, b"").await, 400, "empty");
    check(site.post(&format!("{WRITE}?precision=h"), LINES, good).await, 400, "precision \"h\"");
    check(site.post(&format!("{WRITE}?device="), LINES, good).await, 400, "device");
    // Times and devices: each part is refused, and there is but one.
    let ahead = br#"{"device":"d","time":"2200-01-01T00:00:00Z","t":1}"#;
    check(site.post("/ingest", "application/json", ahead).await, 400, "ahead of its arrival");
    check(site.post("/ingest", "application/json", b"{\"t\":1}").await, 400, "no device");
    let pack = br#"[{"n":"t","v":1}]"#;
    check(site.post("/ingest", "application/senml+json", pack).await, 400, "device");
    // No such route, no such method.
    assert_eq!(site.post("/api/v2/query", LINES, good).await.status, 404);
    assert_eq!(http::get(site.port, WRITE).await.unwrap().status, 405);
    assert_eq!(stored(&site).await, []);
    // It still takes what is good.
    assert_eq!(site.post(WRITE, LINES, good).await.status, 204);
    assert_eq!(packed(&site, "gzip", &gzip(good)).await.status, 204);
    assert_eq!(stored(&site).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_is_in_the_unit_that_the_request_says() {
    let site = capture_only("").await;
    let cases = [("", "000000000"), ("ns", "000000000"), ("us", "000000"), ("u", "000000"), ("ms", "000"), ("s", "")];
    for (precision, zeros) in cases {
        let query = if precision.is_empty() { String::new() } else { format!("?precision={precision}") };
        let answer = site.post(&format!("{WRITE}{query}"), LINES, format!("t,device=d value=1 {BASE_S}{zeros}")).await;
        assert_eq!(answer.status, 204, "{precision}: {answer:?}");
    }
    // The older address, and a line protocol that a bare number is not.
    assert_eq!(site.post("/write?db=x&precision=s", LINES, format!("t,device=d value=1 {BASE_S}")).await.status, 204);
    assert_eq!(site.post(&format!("{WRITE}?device=d"), LINES, "21.5").await.status, 400);
    let stored = stored(&site).await;
    assert_eq!(stored, vec![(series("d", "t"), BASE_S * 1_000_000_000, 1.0); 7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_and_nobody_keeps_one_for_nothing() {
    let site = capture_only("connections_max = 2\ntimeout_ms = 300").await;
    // Two that say nothing, and two that say it byte by byte: the places come free, and the next one is answered.
    let mut idle = Vec::new();
    for _ in 0..2 {
        idle.push(TcpStream::connect(("127.0.0.1", site.port)).await.unwrap());
    }
    let slow = tokio::spawn({
        let port = site.port;
        async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            for byte in b"GET /health HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 10_000)) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            false
        }
    });
    assert_eq!(site.post(WRITE, LINES, "t,device=d value=1").await.status, 204);
    drop(idle);
    // A body that does not come.
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).await.unwrap();
    let authorization = format!("Token {TOKEN}");
    let head = http::head("POST", WRITE, &[("Authorization", &authorization)], 1_000);
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = http::receive(&mut stream).await.unwrap();
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.message().contains("300 ms"), "{answer:?}");
    assert!(slow.await.unwrap(), "a head that comes byte by byte is cut off");
    assert_eq!(stored(&site).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_request_is_told_what_is_wrong() {
    let site = capture_only("").await;
    site.wait_for_requests().await;
    let client = async_nats::connect(site.gateway.server.url()).await.unwrap();
    let ask = async |device: &str, body: &str| {
        let subject = format!("direct.{SITE}.{device}");
        let answer = client.request(subject, body.to_owned().into()).await.unwrap();
        let header = |name: &str| {
            answer.headers.as_ref().and_then(|headers| headers.get(name)).map(ToString::to_string).unwrap_or_default()
        };
        let body: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        (header("Nats-Service-Error-Code"), header("Nats-Service-Error"), body)
    };
    // The subject's token is the device, encoded.
    let (code, _, body) = ask("a%2Eb", "21.5").await;
    assert_eq!((code.as_str(), body["stored"].as_u64()), ("", Some(1)));
    // Part of it.
    let (code, error, body) = ask("d", r#"[{"t":1},{"t":"warm"}]"#).await;
    assert_eq!((code.as_str(), body["stored"].as_u64()), ("400", Some(1)));
    assert!(error.starts_with("element 1: "), "{error}");
    // All of it; what the header says is one line whatever was sent.
    let (code, error, body) = ask("d", "not\nJSON, not\r\nlines").await;
    assert_eq!((code.as_str(), body["stored"].as_u64()), ("400", Some(0)));
    assert!(error.starts_with("line 1: ") && !error.contains('\n'), "{error}");
    let (code, error, _) = ask("d", "").await;
    assert_eq!((code.as_str(), error.as_str()), ("400", "the message is empty"));
    let names: Vec<_> = stored(&site).await.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, [series("a.b", "value"), series("d", "t")]);
}
