//! Export from a hub: what a gateway sent lies in Parquet as it does from the gateway itself.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use eddy_cli::{hub::HubFile, supervise::register::MachineFile};
use eddy_runtime::client::{Client, ReadFrom};
use eddy_schemas::{
    Control, ControlKind, ReadingsBuilder, ScoresBuilder, names,
    region::{Word, said_subject},
    sync::{
        Class, stream_of, subject_of,
        wire::{Batch, entry::What},
    },
};
use futures_util::TryStreamExt as _;
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::filled::{failure, summary, tree};
use crate::{
    gateway::connect,
    region::{Hub, Site},
    stage::binary,
};

const PLANT: &str = "plant 1";
const CLASSES: [&str; 3] = ["alerts", "contexts", "labels"];

type Row = BTreeMap<String, String>;

fn export(to: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(binary("eddy-export"));
    command.arg("--to").arg(to).arg("--json").args(more);
    command.env_remove("EDDY_SEED").env_remove("EDDY_CONFIG");
    command
}

/// A context and a label, where a gateway has them.
async fn say(site: &Site) {
    let token = names::encode(PLANT);
    let context = serde_json::json!({
        "alert": "0000000000000001", "site": PLANT, "device": "pump 1", "opened": "2026-01-05T00:00:00Z",
        "verdict": { "kind": "recurring" }, "text": "as before", "neighbours": [], "windows": 5, "bundle": "bundle",
        "window": {
            "window": 1, "device": "pump 1", "channel": "t", "start": 0, "end": 1, "distance": 0.0, "score": 1.0, "filled": 9,
            "sequence": 1,
        },
    });
    let publish = async |subject: String, payload: Vec<u8>| {
        site.client.publish(&subject, &[], payload.into()).await.unwrap();
    };
    publish(format!("context.{token}.pump%201"), context.to_string().into_bytes()).await;
    let kind =
        ControlKind::Label { device: "pump 1".into(), alert: "0000000000000001".into(), label: "bearing".into() };
    let label = Control { id: "label-1".into(), origin: "olga".into(), time: 1_767_571_200_000_000_007, kind };
    let (mut readings, mut scores) = (ReadingsBuilder::default(), ScoresBuilder::new("bundle"));
    readings.push_control(&label, label.time);
    scores.push_control(&label);
    publish(format!("readings.{token}.0"), readings.encode()).await;
    publish(format!("scores.{token}.0"), scores.encode()).await;
}

/// Of each class `sequence row what` of its entries in the hub's stream.
async fn sent(client: &Client) -> BTreeMap<&'static str, Vec<String>> {
    let messages = client.read(&stream_of(PLANT), &[], ReadFrom::Start).await.unwrap();
    let messages: Vec<_> = messages.try_collect().await.unwrap();
    let mut sent = BTreeMap::<_, Vec<String>>::new();
    for message in messages {
        let Ok((_, entries)) = Batch::read(&message.payload) else { continue };
        for (row, entry) in entries.entries.iter().enumerate() {
            let text = |json: &[u8]| String::from_utf8(json.to_vec()).unwrap();
            let (class, what) = match entry.what.as_ref().unwrap() {
                What::Alert(json) => ("alerts", text(json)),
                What::Context(json) => ("contexts", text(json)),
                What::Label(label) => ("labels", format!("{} {}", label.alert, label.label)),
                _ => continue,
            };
            sent.entry(class).or_default().push(format!("{} {row} {what}", message.sequence));
        }
    }
    sent
}

/// The rows of a class below `root`, in the order of their files.
fn rows(root: &Path, class: &str) -> Vec<Row> {
    let files = tree(root).into_keys().filter(|path| path.starts_with(&format!("class={class}/")));
    let mut rows = Vec::new();
    for path in files {
        let reader = SerializedFileReader::new(std::fs::File::open(root.join(path)).unwrap()).unwrap();
        for row in reader.get_row_iter(None).unwrap() {
            let row = row.unwrap();
            rows.push(row.get_column_iter().map(|(name, field)| (name.clone(), field.to_string())).collect());
        }
    }
    rows
}

/// What a row is, wherever it was read.
fn apart_from_its_place(rows: Vec<Row>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows
        .into_iter()
        .map(|row| {
            row.into_iter().filter(|(name, _)| !["sequence", "row", "control"].contains(&name.as_str())).collect()
        })
        .collect();
    rows.sort();
    rows
}

/// That the rows are those entries.
fn assert_are_those(rows: &[Row], class: &str, sent: &[String]) {
    let unquoted = |row: &Row, column: &str| {
        let text = &row[column];
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).to_owned()
    };
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| {
            let what = match class {
                "labels" => format!("{} {}", unquoted(row, "alert"), unquoted(row, "label")),
                _ => unquoted(row, "json"),
            };
            format!("{} {} {what}", row["sequence"], row["row"])
        })
        .collect();
    let mut sent = sent.to_vec();
    found.sort();
    sent.sort();
    assert_eq!(found, sent, "{class}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_sent_is_exported_from_its_hub_as_from_itself() {
    let hub = Hub::start(&[PLANT, "quiet"], 1);
    let mut plant = Site::start(PLANT, hub.address(), 1, &[]).await;
    plant.feed().await.more(12).await;
    say(&plant).await;
    let client = connect(&hub.url()).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let sent = loop {
        let sent = if client.stream(&stream_of(PLANT)).await.unwrap().is_some() {
            self::sent(&client).await
        } else {
            BTreeMap::new()
        };
        let counts: Vec<_> = CLASSES.iter().map(|class| sent.get(class).map_or(0, Vec::len)).collect();
        if counts == [3, 1, 1] {
            break sent;
        }
        assert!(Instant::now() < deadline, "{counts:?}\n{}\n{}", plant.said(), hub.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Nothing more comes.
    assert!(plant.sync.stop().success(), "{}", plant.said());

    let folder = tempfile::tempdir().unwrap();
    let (region, own) = (folder.path().join("region"), folder.path().join("own"));
    let url = hub.url();
    let of_hub = ["--hub", url.as_str(), "--site", PLANT];
    let done = summary(&mut export(&region, &of_hub));
    assert_eq!((&done["site"], &done["rows"]), (&PLANT.into(), &5.into()), "{done}");
    summary(&mut export(&own, &["--url", &plant.server.url(), "--site", PLANT, "--class", &CLASSES.join(",")]));
    for class in CLASSES {
        let found = rows(&region, class);
        assert_are_those(&found, class, &sent[class]);
        assert_eq!(apart_from_its_place(found), apart_from_its_place(rows(&own, class)), "{class}");
    }

    // Again nothing is written; what is no batch is counted and stops nothing; what was said at the hub is a label.
    let files = tree(&region);
    let again = summary(&mut export(&region, &of_hub));
    assert_eq!((&again["files_written"], &again["manifest"]), (&0.into(), &done["manifest"]));
    assert_eq!(tree(&region), files);
    client.publish(&subject_of(PLANT, Class::Alerts), &[], "rubbish".into()).await.unwrap();
    let word = Word {
        device: "pump 1".into(),
        alert: "0000000000000001".into(),
        label: "normal".into(),
        origin: "hub/olga".into(),
        time: 1_767_571_200_000_000_009,
    };
    client.publish(&said_subject(PLANT), &[], serde_json::to_vec(&word).unwrap().into()).await.unwrap();
    let grown = summary(&mut export(&region, &of_hub));
    let skipped: Vec<_> = grown["classes"].as_array().unwrap().iter().map(|class| class["skipped"].clone()).collect();
    assert_eq!((&grown["rows"], skipped), (&6.into(), vec![1.into(), 0.into(), 1.into()]), "{grown}");
    let labels = rows(&region, "labels");
    assert_eq!(labels.iter().map(|row| row["origin"].as_str()).collect::<Vec<_>>(), ["\"olga\"", "\"hub/olga\""]);
    assert!(files.iter().all(|(path, digest)| tree(&region).get(path) == Some(digest)), "what was there is as it was");

    // A folder's hub is found by its file, and its streams hold what lies there.
    let machine = MachineFile { url, ..MachineFile::default() };
    let file = serde_json::to_vec(&HubFile { machine, ..HubFile::default() }).unwrap();
    std::fs::write(folder.path().join("hub.json"), file).unwrap();
    let mut receipts = Command::new(binary("eddy-export"));
    receipts.args(["receipts", "--json", "--to"]).arg(&region).arg("--hub").arg(folder.path());
    let told = summary(receipts.env_remove("EDDY_SEED"));
    for class in told["classes"].as_array().unwrap() {
        assert_eq!((&class["found"]["ranges"], &class["found"]["compared"]), (&2.into(), &2.into()), "{told}");
    }
    refuses(&region, folder.path().to_str().unwrap(), &plant);
}

/// What a hub has not, and what would be there twice.
fn refuses(region: &Path, hub: &str, plant: &Site) {
    for (class, why) in [("samples", "samples stay on the gateway"), ("scores", "five quantiles")] {
        let said = failure(&mut export(region, &["--hub", hub, "--class", class]), 64);
        assert!(said.contains(why) && said.contains("from the gateway"), "{said}");
    }
    let said = failure(&mut export(region, &["--hub", hub, "--site", "other"]), 1);
    assert!(said.contains("no stream of site \"other\"") && said.contains("quiet"), "{said}");
    let of_gateway = ["--url", &plant.server.url(), "--site", PLANT, "--class", "alerts"];
    let said = failure(&mut export(region, &of_gateway), 1);
    assert!(said.contains("from stream SITE_plant%201") && said.contains("twice"), "{said}");
    let output = export(&region.with_extension("all"), &["--hub", hub]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let of = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["site"].clone();
    assert_eq!(lines.lines().map(of).collect::<Vec<_>>(), [PLANT, "quiet"]);
}
