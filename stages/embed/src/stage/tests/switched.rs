//! A second bundle: beside the first one, in its place, and back.

use eddy_schemas::BundleAction::{self, Activate, Retire, Stage as Begin};

use super::*;

/// A folder with the default bundle under another version, so of another digest: its vectors are the same.
struct Further {
    folder: tempfile::TempDir,
    digest: String,
}

impl Further {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let default = repository().join("fixtures/bundles/default");
        let text = std::fs::read_to_string(default.join("model.toml")).unwrap();
        let further = text.replace("version = \"", "version = \"further-");
        assert_ne!(text, further);
        let digest = blake3::hash(further.as_bytes()).to_hex().to_string();
        let place = folder.path().join(&digest);
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("model.toml"), further).unwrap();
        std::fs::copy(default.join("model.onnx"), place.join("model.onnx")).unwrap();
        Self { folder, digest }
    }

    fn embed(&self, commissioning_rows: usize) -> Embed {
        let bundles = self.folder.path().to_owned();
        open(Config { bundles, allow_unsigned: true, ..config(commissioning_rows) }).unwrap()
    }

    fn say(&self, time: i64, action: BundleAction) -> Row {
        said(time, &self.digest, action)
    }
}

fn said(time: i64, digest: &str, action: BundleAction) -> Row {
    control(time, ControlKind::Bundle { digest: digest.into(), action })
}

/// A walk in whose course a bundle joins, takes over, and is sent away again.
fn switching(further: &Further, first: &str) -> Vec<Row> {
    let mut rows = walk(3, 1_500, true);
    rows.insert(1_300, said(5, &further.digest, Retire));
    rows.insert(1_100, said(4, first, Activate));
    rows.insert(800, further.say(3, Activate));
    rows.insert(300, further.say(2, Begin));
    rows
}

#[test]
fn the_vectors_of_both_stand_side_by_side_and_change_roles() {
    let further = Further::new();
    let mut stage = further.embed(60);
    let first = stage.bundle_digest().to_owned();
    let batches = run(&mut stage, &switching(&further, &first), usize::MAX);
    let shadow = |batch: &Embeddings| batch.shadow.as_ref().map(|shadow| shadow.bundle.clone());
    let roles: Vec<_> = batches.iter().map(|batch| (batch.bundle.clone(), shadow(batch))).collect();
    let (one, other) = (first.clone(), further.digest.clone());
    assert_eq!(
        roles,
        [
            (one.clone(), None),
            (one.clone(), Some(other.clone())),
            (other.clone(), Some(one.clone())),
            (one.clone(), Some(other)),
            (one, None),
        ]
    );
    for batch in &batches {
        let Some(shadow) = &batch.shadow else { continue };
        for (own, other) in batch.heads.iter().zip(&shadow.heads) {
            let (mut vector, mut beside) = (vec![0.0; own.head.dimensions], vec![1.0; other.head.dimensions]);
            for row in 0..batch.rows.len() {
                assert_eq!(own.copy_to(row, &mut vector), other.copy_to(row, &mut beside));
                assert_eq!(vector, beside, "row {row} of {}", own.head.name);
            }
        }
    }
    // But for the names of bundles the rows are those of one that never heard of another.
    let plain = |batches: &[Embeddings]| -> Vec<_> {
        batches
            .iter()
            .flat_map(|batch| (0..batch.rows.len()).map(|row| (batch.rows.time[row], batch.filled[row])))
            .collect()
    };
    let mut alone = walk(3, 1_500, true);
    [(300, 2), (800, 3), (1_100, 4), (1_300, 5)].iter().rev().for_each(|(at, time)| {
        alone.insert(*at, control(*time, ControlKind::Maintenance { device: "nobody".into(), on: true, until: None }));
    });
    assert_eq!(plain(&batches), plain(&run(&mut embed(60), &alone, usize::MAX)));
}

#[test]
fn cuts_and_restarts_change_nothing_across_a_switch() {
    let further = Further::new();
    let first = embed(60).bundle_digest().to_owned();
    let rows = switching(&further, &first);
    let encode =
        |rows: &[Row]| Message { stream: "SAMPLES", subject: "samples.site.0".into(), payload: message(rows).payload };
    let messages: Vec<_> = rows.chunks(70).map(encode).collect();
    assert_stage_contract(|| further.embed(60), &messages, 0..4);
}

#[test]
fn a_bundle_that_is_not_there_changes_nothing() {
    let further = Further::new();
    let mut rows = walk(5, 400, false);
    rows.insert(200, further.say(2, Activate));
    let mut stage = embed(60);
    let batches = run(&mut stage, &rows, usize::MAX);
    assert!(batches.iter().all(|batch| batch.bundle == stage.bundle_digest() && batch.shadow.is_none()));
    assert_eq!(batches.len(), 2);
    // Where it was at hand and is not for a moment, nobody goes on without it.
    let (mut away, message) = (further.embed(60), message(&rows));
    let hidden = further.folder.path().join("hidden");
    std::fs::rename(further.folder.path().join(&further.digest), &hidden).unwrap();
    let input = away.decode(&message).unwrap();
    let mut out = Outbox::new(away.outputs(), usize::MAX);
    away.process(&message, &input, 0..Embed::rows(&input), &mut out);
    let reason = out.stopped().unwrap();
    assert!(reason.contains(&further.digest) && reason.contains("bring it back"), "{reason}");
    std::fs::rename(&hidden, further.folder.path().join(&further.digest)).unwrap();
    // And state that was made with it is not opened without it.
    let (mut with, mut state) = (further.embed(60), BTreeMap::new());
    run(&mut with, &rows, usize::MAX);
    saved(&mut with, &mut state);
    let error = embed(60).load(b"b", &state[b"b".as_slice()]).unwrap_err().to_string();
    assert!(error.contains(&further.digest) && error.contains("bring it back"), "{error}");
    let mut again = further.embed(60);
    state.iter().for_each(|(key, value)| again.load(key, value).unwrap());
    assert_eq!(again.bundle_digest(), further.digest);
}
