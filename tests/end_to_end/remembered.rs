//! What the gateway remembers where detect tells every window, and what people ask of it with `eddy query`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    gateway::{Gateway, ROOMY, SITE},
    index::{indexed, stats, told},
    oracle::{Outcome, assert_same, outcome},
    recording::{fleet, send},
    stage::binary,
};

/// `eddy query …` at this gateway.
pub fn query(gateway: &Gateway, arguments: &[&str]) -> Output {
    let environment = gateway.environment(&gateway.state());
    let bundle = environment.into_iter().filter(|(name, _)| name.contains("BUNDLE") || name.contains("TRUSTED"));
    Command::new(binary("eddy"))
        .args(["query", "--url", &gateway.server.url(), "--site", SITE])
        .args(arguments)
        .envs(bundle)
        .env_remove("EDDY_SEED")
        .output()
        .unwrap()
}

fn answer(ran: &Output) -> serde_json::Value {
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The recording of one device, as far as `fleet` took it, as a file of its own.
fn file(folder: &Path, device: &str, rows: usize) -> PathBuf {
    use std::io::Read as _;
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../fixtures/fleet/{device}.csv.gz"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(recorded).unwrap()).read_to_string(&mut text).unwrap();
    let part: Vec<&str> = text.lines().take(rows + 1).collect();
    let path = folder.join("some file.csv");
    std::fs::write(&path, part.join("\n")).unwrap();
    path
}

/// Score rows as they are but for the vectors that some of them carry.
fn without_windows(outcome: &Outcome) -> Outcome {
    let cut = |line: &String| line.split(" window=").next().unwrap().to_owned();
    let scores = outcome.scores.iter().map(|(series, lines)| (series.clone(), lines.iter().map(cut).collect()));
    Outcome { alerts: outcome.alerts.clone(), scores: scores.collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_windows_are_found_where_detect_tells_all_and_a_file_finds_itself() {
    let rows = 1_800;
    let devices = fleet(&["harbour-1", "plaza.north 7"], rows);
    let kept = {
        let gateway = Gateway::start(&ROOMY).await;
        send(&gateway.client, &devices, 500).await;
        gateway.wait_until_through().await;
        (outcome(&gateway.client).await, told(&gateway.client).await)
    };
    let mut gateway = Gateway::without_stages(&ROOMY).await;
    for stage in ["capture", "preprocess", "embed"] {
        gateway.start_stage(stage);
    }
    gateway.start_stage_with("detect", &[("EDDY_DETECT_TELL_WINDOWS", "all")]);
    gateway.start_stage("index");
    send(&gateway.client, &devices, 500).await;
    gateway.wait_until_through().await;
    indexed(&gateway).await;
    // INV-3: alerts and scores are those of a gateway that tells fewer vectors.
    let all = outcome(&gateway.client).await;
    assert!(!all.alerts.is_empty());
    assert_same(&without_windows(&kept.0), &without_windows(&all), "all windows told against those that were kept");
    let windows = told(&gateway.client).await;
    let is_told = |window: &(String, i64)| windows.contains(window);
    assert!(kept.1.iter().all(is_told) && kept.1.len() * 3 < windows.len(), "{} {}", kept.1.len(), windows.len());
    let scored: usize =
        all.scores.iter().filter(|(series, _)| !series.ends_with("/*")).map(|(_, rows)| rows.len()).sum();
    // All but those that begin a series, or come after a long gap.
    assert!(windows.len() * 20 > scored * 19, "{} of {scored}", windows.len());
    assert_eq!(stats(&gateway.client).await.unwrap().windows, windows.len() as u64);

    let folder = tempfile::tempdir().unwrap();
    let file = file(folder.path(), "harbour-1", rows);
    let file = file.to_str().unwrap();
    let found = answer(&query(&gateway, &["--like", file, "--json", "-k", "3"]));
    let (asked, first) = (&found["file"], &found["neighbours"][0]);
    // The file is what the gateway was sent, so its windows are the gateway's.
    assert_eq!(
        (first["device"].as_str(), &first["channel"], &first["end"]),
        (Some("harbour-1"), &asked["channel"], &asked["end"])
    );
    assert!(first["distance"].as_f64().unwrap() < 0.05, "{first}");
    let shown = query(&gateway, &["--like", file, "-k", "2", "--channel", "voc"]);
    let text = String::from_utf8(shown.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 4 && lines[0].contains("asked  some file/voc") && lines[1].contains("/voc"), "{text}");
    let pictures: BTreeSet<&str> = lines[..2].iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert!(pictures.len() == 1, "the same readings: {text}");
    let chosen = query(&gateway, &["--like", file]);
    assert!(String::from_utf8_lossy(&chosen.stderr).contains("has 3 series"), "{chosen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_asked_about_says_why() {
    let gateway = Gateway::without_stages(&ROOMY).await;
    let folder = tempfile::tempdir().unwrap();
    let short = file(folder.path(), "harbour-1", 40);
    for (arguments, part) in [
        (vec!["--like", short.to_str().unwrap()], "40 readings"),
        (
            vec!["--like", short.to_str().unwrap(), "--device", "nobody"],
            "no such device or channel; it has some%20file/humidity",
        ),
        (vec!["--like", short.to_str().unwrap(), "--others"], "leave it out"),
        (vec!["--like", "/gone/file.csv"], "no such file"),
    ] {
        let ran = query(&gateway, &arguments);
        let told = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(!ran.status.success() && told.contains(part), "{arguments:?}: {told}");
    }
}
