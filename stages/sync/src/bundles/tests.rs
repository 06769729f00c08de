use std::time::Duration;

use bytes::Bytes;
use eddy_runtime::bus::memory::{Faults, MemoryBus};

use super::*;

fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::new("sync", 0, Duration::from_secs(1)))
}

fn default_bundle() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/bundles/default")
}

fn digest_of(bundle: &Path) -> String {
    blake3::hash(&fs::read(bundle.join("model.toml")).unwrap()).to_hex().to_string()
}

/// What a store of objects says of these files: chunks, then the object, as NATS lays them out.
fn pushed(digest: &str, files: &[(&str, Vec<u8>)], chunk: usize) -> Vec<Read> {
    let (mut messages, mut sequence) = (Vec::new(), 100);
    let mut say = |subject: String, payload: Vec<u8>| {
        sequence += 1;
        messages.push(Read { subject, sequence, payload: Bytes::from(payload) });
    };
    for (at, (name, bytes)) in files.iter().enumerate() {
        let nuid = format!("Nuid{at}");
        bytes.chunks(chunk).for_each(|part| say(format!("{CHUNK_PREFIX}{nuid}"), part.to_vec()));
        let (size, chunks) = (bytes.len(), bytes.len().div_ceil(chunk));
        let name = format!("{digest}/{name}");
        let meta = serde_json::json!({"name": name, "bucket": "MODELS", "nuid": nuid, "size": size, "chunks": chunks});
        say(format!("{META_PREFIX}bmFtZQ=="), meta.to_string().into_bytes());
    }
    messages
}

struct World {
    folder: tempfile::TempDir,
    bundles: Bundles,
}

impl World {
    fn new(keys: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = Library::new(folder.path(), keys, false);
        let bundles = Bundles::new(library, folder.path(), telemetry());
        Self { folder, bundles }
    }

    fn trusting() -> Self {
        Self::new(&[default_bundle().with_extension("pub").display().to_string()])
    }

    fn take(&self, messages: &[Read]) -> Result<Taken, String> {
        messages
            .iter()
            .map(|message| self.bundles.message(message))
            .collect::<Result<Vec<_>, _>>()
            .map(|mut all| all.pop().unwrap())
    }
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    FILES.map(|name| (name, fs::read(default_bundle().join(name)).unwrap())).into()
}

#[test]
fn a_bundle_that_was_pushed_comes_into_the_folder_whatever_comes_twice() {
    let (world, digest) = (World::trusting(), digest_of(&default_bundle()));
    let mut messages = pushed(&digest, &files(), 4_000);
    assert!(messages.len() > 10);
    // The first chunks come again, as after a crash.
    messages.splice(3..3, messages[..3].to_vec());
    assert_eq!(world.take(&messages), Ok(Taken::Installed(digest.clone())));
    for (name, bytes) in files() {
        assert_eq!(fs::read(world.folder.path().join(&digest).join(name)).unwrap(), bytes);
    }
    let left: Vec<_> = fs::read_dir(world.folder.path().join(".incoming")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_not_signed_or_not_whole_or_no_bundle_is_told_and_not_kept() {
    let digest = digest_of(&default_bundle());
    let told = |world: &World, messages: &[Read], part: &str| {
        let problem = world.take(messages).unwrap_err();
        assert!(problem.contains(part), "{part}: {problem}");
        assert!(!world.folder.path().join(&digest).exists());
    };
    let all = pushed(&digest, &files(), 4_000);
    told(&World::new(&[]), &all, "signed by none of the 0 trusted keys");
    told(&World::trusting(), &all[1..], "push the bundle again");
    let mut altered = files();
    altered[0].1[100] ^= 1;
    told(&World::trusting(), &pushed(&digest, &altered, 4_000), "expected BLAKE3");
    told(&World::trusting(), &pushed(&"0".repeat(64), &files(), 4_000), "is that of bundle");
    told(&World::trusting(), &pushed("../../etc", &files(), 4_000), "is no file of a bundle");
    let strange = |subject: &str, payload: &str| Read {
        subject: subject.into(),
        sequence: 1,
        payload: payload.to_owned().into(),
    };
    for (subject, payload, part) in [
        ("$O.MODELS.C.../../x", "a", "no object's id"),
        ("$O.MODELS.M.x", "rubbish", "no object"),
        ("$O.OTHER.M.x", "{}", "neither"),
    ] {
        told(&World::trusting(), &[strange(subject, payload)], part);
    }
}

#[tokio::test]
async fn a_wish_for_the_site_goes_before_one_for_all_and_what_was_said_here_since_stands() {
    let (bus, hub) = (MemoryBus::new(1, Faults::default()), MemoryBus::new(2, Faults::default()));
    bus.create(models::STREAM, 1);
    hub.create(WISH_STREAM, 1);
    let wake = Arc::new(Notify::new());
    let mut wishes = Wishes {
        bus: bus.clone(),
        hub: hub.clone(),
        site: "plant 1".into(),
        wake: wake.clone(),
        telemetry: telemetry(),
    };
    let json = |digit: char, time| {
        let wish = Desired { digest: digit.to_string().repeat(64), origin: "anna".into(), time, at_once: false };
        Bytes::from(serde_json::to_vec(&wish).unwrap())
    };
    let own = format!("{WISH_PREFIX}{}", models::key_of("plant 1"));
    let all = format!("{WISH_PREFIX}{FOR_ALL}");
    let read = |subject: &str, payload: Bytes| Read { subject: subject.into(), sequence: 1, payload };
    wishes.take(&read(&all, json('a', 5))).await.unwrap();
    wishes.take(&read(&all, json('a', 5))).await.unwrap();
    wishes.take(&read(&all, json('b', 4))).await.unwrap();
    wishes.take(&read(&format!("{WISH_PREFIX}site.other"), json('c', 9))).await.unwrap();
    wishes.take(&read(&own, Bytes::from_static(b"rubbish"))).await.unwrap();
    wishes.take(&read(&own, json('d', 6))).await.unwrap();
    let publication = Publication {
        stream: WISH_STREAM.into(),
        subject: own.clone(),
        headers: Vec::new(),
        payload: json('d', 6),
        guard: None,
    };
    hub.publish(vec![publication]).await.unwrap();
    wishes.take(&read(&all, json('e', 7))).await.unwrap();
    let said = bus.messages(models::STREAM, "models.plant%201.desired");
    let said: Vec<Desired> = said.into_iter().map(|(_, payload)| serde_json::from_slice(&payload).unwrap()).collect();
    let digits: Vec<_> = said.iter().map(|wish| (&wish.digest[..1], wish.origin.as_str())).collect();
    assert_eq!(digits, [("a", "region/anna"), ("d", "region/anna")]);
    // A wish makes the bucket be read.
    wake.notified().await;
}
