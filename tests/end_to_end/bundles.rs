//! From one bundle to another, and back: on a gateway that is killed around it, by the command line, and from the region.

pub mod commands;
mod region;

use std::{
    fs,
    path::{Path, PathBuf},
};

use eddy_schemas::{BundleAction, Control, ControlKind};

use crate::{
    faults::{Dice, seed},
    gateway::{Gateway, ROOMY, SITE, STAGES},
    oracle::{Outcome, assert_same, lost_and_doubled, outcome},
    recording::{Device, fleet, send},
};

fn default_bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/bundles/default")
}

/// The default bundle, unsigned, its manifest altered; its digest.
pub fn altered(folder: &Path, from: &str, to: &str) -> String {
    let text = fs::read_to_string(default_bundle().join("model.toml")).unwrap();
    assert!(text.contains(from), "{from}");
    let text = text.replace(from, to);
    fs::create_dir_all(folder).unwrap();
    fs::copy(default_bundle().join("model.onnx"), folder.join("model.onnx")).unwrap();
    fs::write(folder.join("model.toml"), &text).unwrap();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The row from which the first bundle judges again.
const GOES_BACK: usize = 2_300;
/// Rows of each device.
const ROWS: usize = 4_000;
/// The rows at which the bundle joins, takes over, goes back into the shadow, and is sent away.
const SWITCHES: [(usize, BundleAction); 4] = [
    (450, BundleAction::Stage),
    (900, BundleAction::Activate),
    (GOES_BACK, BundleAction::Activate),
    (2_700, BundleAction::Retire),
];

/// A recording with switches in it, through a gateway whose processes die by `dice`, if there are any.
async fn switched(bundles: &Path, digest: &str, mut dice: Option<Dice>) -> (Outcome, (u64, u64)) {
    let mut gateway = Gateway::without_stages(&ROOMY).await;
    let folder = bundles.display().to_string();
    for stage in STAGES {
        let upper = stage.to_uppercase();
        let names = [format!("EDDY_{upper}_BUNDLES"), format!("EDDY_{upper}_ALLOW_UNSIGNED")];
        let more: &[(&str, &str)] = match stage {
            "preprocess" => &[],
            _ => &[(&names[0], &folder), (&names[1], "true")],
        };
        gateway.start_stage_with(stage, more);
    }
    let devices = fleet(&["harbour-1", "plaza.north 7"], ROWS);
    let mut rest = devices.clone();
    let mut at = 0;
    for (nth, (row, action)) in
        SWITCHES.into_iter().map(|(row, action)| (row, Some(action))).chain([(ROWS, None)]).enumerate()
    {
        let part: Vec<Device> = rest
            .iter_mut()
            .map(|device| {
                // A row is one reading a channel, so devices of several channels have as many for each row.
                let channels = device.readings.iter().take_while(|(_, time, _)| *time == device.readings[0].1).count();
                let (first, after) = device.cut(((row - at) * channels).min(device.readings.len()));
                *device = after;
                first
            })
            .collect();
        at = row;
        send(&gateway.client, &part, 400).await;
        if let Some(dice) = &mut dice {
            for _ in 0..4 {
                tokio::time::sleep(std::time::Duration::from_millis(20 + dice.below(150))).await;
                gateway.stages[dice.below(4) as usize].kill_and_restart();
            }
        }
        // Readings and controls come by two streams: their order is capture's, unless one waits for the other.
        gateway.wait_until_through().await;
        if let Some(action) = action {
            let first = blake3::hash(&fs::read(default_bundle().join("model.toml")).unwrap()).to_hex().to_string();
            let digest = if row == GOES_BACK { first } else { digest.to_owned() };
            let kind = ControlKind::Bundle { digest, action };
            let control = Control { id: format!("switch-{nth}"), origin: "test".into(), time: 1, kind };
            let json = control.to_json().into();
            gateway.client.publish(&format!("control.{SITE}.bundle"), &[], json).await.unwrap();
            if let Some(dice) = &mut dice {
                gateway.stages[dice.below(4) as usize].kill_and_restart();
            }
            gateway.wait_until_through().await;
        }
    }
    (outcome(&gateway.client).await, lost_and_doubled(&gateway.client, &devices).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_around_switches_the_alerts_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let part = folder.path().join("part");
    let digest = altered(&part, "version = \"", "version = \"next-");
    fs::rename(&part, folder.path().join(&digest)).unwrap();
    // Controls may go back to the first one only if it is at hand, too.
    let first = blake3::hash(&fs::read(default_bundle().join("model.toml")).unwrap()).to_hex().to_string();
    fs::create_dir(folder.path().join(&first)).unwrap();
    for name in ["model.onnx", "model.toml"] {
        fs::copy(default_bundle().join(name), folder.path().join(&first).join(name)).unwrap();
    }
    let (expected, accounted) = switched(folder.path(), &digest, None).await;
    assert_eq!(accounted, (0, 0));
    let said_by = |digest: &str| {
        expected.alerts.values().flatten().filter(|alert| alert.contains(&format!("\"bundle\":\"{digest}\""))).count()
    };
    assert!(said_by(&digest) > 0 && said_by(&first) > 0, "{} and {}", said_by(&digest), said_by(&first));
    let scored_by = |digest: &str| expected.scores.values().flatten().filter(|row| row.contains(digest)).count();
    assert!(scored_by(&digest) > 3_000 && scored_by(&first) > 3_000);
    let (found, accounted) = switched(folder.path(), &digest, Some(Dice(seed()))).await;
    assert_same(&expected, &found, "killed around switches");
    assert_eq!(accounted, (0, 0));
}
