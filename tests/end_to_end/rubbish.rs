//! INV-4 and INV-6: rubbish of every kind stops nothing, is put aside with its reason, and the counters add up.

use eddy_schemas::side::Reason;

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    oracle::{dead_letters, lost_and_doubled},
    recording::{fleet, send},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rubbish_is_put_aside_and_everything_else_goes_through() {
    let mut gateway = Gateway::start(&ROOMY).await;
    let devices = fleet(&["harbour-1"], 600);
    let rubbish: Vec<(String, Option<&str>, Vec<u8>)> = vec![
        (format!("ingest.{SITE}.d"), None, b"".to_vec()),
        (format!("ingest.{SITE}.d"), None, b"{\"time\":".to_vec()),
        (format!("ingest.{SITE}.d"), Some("application/json"), b"[1, 2".to_vec()),
        (format!("ingest.{SITE}.d"), Some("application/json"), b"\xff\xfe".to_vec()),
        (format!("ingest.{SITE}.d"), Some("application/senml+json"), b"{\"n\": 5}".to_vec()),
        (format!("ingest.{SITE}.d"), Some("application/vnd.apache.arrow.stream"), b"ARROW1 no".to_vec()),
        (format!("ingest.{SITE}.d"), Some("application/vnd.apache.arrow.stream"), vec![0xff; 4_096]),
        (format!("ingest.{SITE}.d"), Some("text/plain"), b"not line protocol at all".to_vec()),
        (format!("ingest.{SITE}.d"), Some("application/x-nonsense"), vec![0; 100]),
        (
            format!("ingest.{SITE}.d"),
            Some("application/json"),
            format!("{}{}", "[".repeat(9_000), "]".repeat(9_000)).into_bytes(),
        ),
        (format!("ingest.{SITE}.d"), Some("application/json"), br#"{"temperature":"warm"}"#.to_vec()),
        (
            format!("ingest.{SITE}.d"),
            Some("application/json"),
            br#"{"time":"2200-01-01T00:00:00Z","temperature":1}"#.to_vec(),
        ),
        (format!("ingest.{SITE}.d"), Some("application/json"), br#"{"time":1e300,"temperature":1}"#.to_vec()),
        (format!("ingest.{SITE}.a.b.c"), Some("application/json"), br#"{"temperature":"x"}"#.to_vec()),
        (format!("control.{SITE}.maintenance"), None, b"stop everything".to_vec()),
        (
            format!("control.{SITE}.maintenance"),
            None,
            br#"{"id":"1","origin":"x","time":0,"control":{"kind":"format_disk","device":"d"}}"#.to_vec(),
        ),
        (format!("control.{SITE}.maintenance"), None, vec![0; 2_500_000]),
    ];
    let sent = rubbish.len() as u64;
    // What could not even be put aside is refused at the door, to the sender's face.
    let large = bytes::Bytes::from(vec![0; 3_000_000]);
    assert!(gateway.client.publish(&format!("ingest.{SITE}.d"), &[], large).await.is_err());
    for (subject, content_type, payload) in rubbish {
        let headers: Vec<(&str, &str)> = content_type.iter().map(|kind| ("Content-Type", *kind)).collect();
        gateway.client.publish(&subject, &headers, payload.into()).await.unwrap();
    }
    send(&gateway.client, &devices, 300).await;
    gateway.wait_until_through().await;
    for stage in &mut gateway.stages {
        assert!(stage.ended().is_none(), "{}", stage.log());
    }
    let letters = dead_letters(&gateway.client).await;
    let kinds: std::collections::BTreeSet<Reason> = letters.iter().map(|letter| letter.rejection.reason).collect();
    assert!(letters.len() as u64 >= sent, "{} dead letters for {sent} pieces of rubbish", letters.len());
    assert!(kinds.contains(&Reason::Malformed) && kinds.contains(&Reason::Future), "{kinds:?}");
    assert!(letters.iter().all(|letter| !letter.rejection.detail.is_empty()));
    assert_eq!(lost_and_doubled(&gateway.client, &devices).await, (0, 0));
}
