//! Summaries of the recorded fleet against a direct computation.

use std::{collections::BTreeMap, io::Read as _};

use super::*;

/// A row: device, channel, time, score.
type Row = (String, &'static str, i64, f32);

/// The recorded fleet's readings in the order of time, each with a score: how far it lies from the series' reading before it.
fn recorded() -> Vec<Row> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fleet");
    let mut rows = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(token) = name.strip_suffix(".csv.gz") else { continue };
        let mut text = String::new();
        flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
        let mut before = [f32::NAN; 2];
        for line in text.lines().skip(1) {
            let mut cells = line.split(',');
            let Some(time) = cells.next().and_then(eddy_schemas::time_of) else { continue };
            for ((channel, cell), before) in ["temperature", "humidity"].into_iter().zip(cells).zip(&mut before) {
                let Ok(value) = cell.parse::<f32>() else { continue };
                let score = if before.is_nan() { 0.0 } else { (value - *before).abs() / 4.0 };
                *before = value;
                rows.push((token.to_owned(), channel, time, score));
            }
        }
    }
    rows.sort_by_key(|row| row.2);
    rows
}

/// By sorting, row by row: what the proto says.
fn directly(rows: &[Row], period_s: u32) -> BTreeMap<(String, i64), wire::Summary> {
    let mut scores: BTreeMap<(String, i64), Vec<f32>> = BTreeMap::new();
    for (token, _, time, score) in rows {
        let period = f64::from(period_s);
        let end_s = ((*time as f64 / 1e9) / period).ceil() * period;
        scores.entry((token.clone(), end_s as i64)).or_default().push(*score);
    }
    let summary = |((token, end_s), mut scores): ((String, i64), Vec<f32>)| {
        scores.sort_by(f32::total_cmp);
        let code = |score: f32| (255.0 * score.min(1.0).powf(0.5)).round() as u8;
        let nearest = |part: f64| scores[((part * scores.len() as f64).ceil() as usize).max(1) - 1];
        let quantiles = [0.0, 0.5, 0.9, 0.99, 1.0].map(nearest).map(code);
        let device = eddy_schemas::names::decode(&token);
        let rows = scores.len() as u32;
        ((token, end_s), wire::Summary { device, end_s, period_s, rows, quantiles: quantiles.to_vec().into() })
    };
    scores.into_iter().map(summary).collect()
}

/// As detect publishes them, so many rows a message.
fn publish(bus: &MemoryBus, rows: &[Row], each: usize) {
    for rows in rows.chunks(each) {
        let mut scores = ScoresBuilder::new(BUNDLE);
        for (token, channel, time, score) in rows {
            scores.push(&format!("{token}/{channel}"), *time, *score, 0.5, 0, None);
            scores.push(&format!("{token}/*"), *time, 0.9, 0.5, flags::JOINT, None);
            scores.push(&format!("{token}/new"), *time, 0.9, 0.5, flags::COMMISSIONING, None);
        }
        bus.store("DETECTIONS", "scores.s.0", scores.encode().into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_those_of_all_rows_wherever_commits_and_restarts_fall() {
    let rows = recorded();
    let period_s = 3600;
    let mut expected = directly(&rows, period_s);
    // Each device's last period is still open.
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    expected.keys().for_each(|(token, end_s)| _ = last.insert(token, *end_s));
    let open_ones: Vec<_> = last.into_iter().map(|(token, end_s)| (token.to_owned(), end_s)).collect();
    open_ones.iter().for_each(|key| _ = expected.remove(key));
    let mut told: Vec<wire::Summary> = expected.into_values().collect();
    told.sort_by(|one, other| (one.end_s, &one.device).cmp(&(other.end_s, &other.device)));
    assert!(told.len() > 2_000, "{}", told.len());
    for (each, step) in [(5_000, 1), (977, 5), (9_999_999, 1)] {
        let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
        publish(&bus, &rows, each);
        let all = deliveries(&bus, "DETECTIONS").await;
        for upto in (1..=all.len()).step_by(step).chain([all.len()]) {
            let queue = open(folder.path());
            let config = CollectConfig { period_s, commit_interval: Duration::ZERO, ..config() };
            offer(&mut sink(&queue, config), &all[..upto]).await;
        }
        let mut found = summaries(&open(folder.path()));
        found.sort_by(|one, other| (one.end_s, &one.device).cmp(&(other.end_s, &other.device)));
        assert_eq!(found.len(), told.len());
        assert!(found == told, "{each} rows a message");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_comes_late_counts_in_the_open_period_and_another_period_length_begins_anew() {
    let (bus, folder) = (bus(1), tempfile::tempdir().unwrap());
    let second = 1_000_000_000;
    let rows = |times: &[i64]| times.iter().map(|time| ("d".to_owned(), "t", time * second, 0.25)).collect::<Vec<_>>();
    publish(&bus, &rows(&[300, 301, 299, 600]), 9);
    publish(&bus, &rows(&[590, 601]), 9);
    let all = deliveries(&bus, "DETECTIONS").await;
    let queue = open(folder.path());
    let of = |period_s| CollectConfig { period_s, commit_interval: Duration::ZERO, ..config() };
    offer(&mut sink(&queue, of(300)), &all[..1]).await;
    offer(&mut sink(&queue, of(60)), &all).await;
    let told: Vec<_> = summaries(&queue).iter().map(|s| (s.end_s, s.period_s, s.rows, s.quantiles.to_vec())).collect();
    let quarter = vec![128; 5];
    assert_eq!(told, [(300, 300, 1, quarter.clone()), (600, 300, 3, quarter.clone()), (600, 60, 1, quarter)]);
}
