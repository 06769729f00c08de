//! A region whose shards are real stores, and whose leaders are whoever a test says.

use std::{
    path::Path,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use eddy_runtime::clock::{Clock, ManualClock};
use eddy_schemas::{
    SeriesName, Timestamp,
    names::shard_of,
    region::wire::{ChainReceipt, LabelSaid},
};
use eddy_vectors::index::{Facts, Label, Limits, Model, Searcher, Store, Window, WindowId};
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::answer::{Answers, Bounds, Leader, Peers, Refusal, Region, Said, Shard, Why};

/// What the clock of all tests says.
pub(crate) const NOW: Timestamp = 1_700_000_000_000_000_000;
pub(crate) const BUNDLE: &str = "b1";

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(NOW))
}

/// A shard.
pub(crate) struct TestLed {
    store: Store,
    searcher: Searcher,
    pub(crate) said: Mutex<Vec<Said>>,
    pub(crate) chains: Mutex<Vec<ChainReceipt>>,
    /// Whoever asks for receipts waits until something comes, or its sender is gone.
    pub(crate) held_up: Mutex<Option<mpsc::Receiver<()>>>,
    _folder: tempfile::TempDir,
}

impl TestLed {
    pub(crate) fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { map_bytes: 16 << 20, ..Limits::default() };
        let store = Store::open(Path::new(folder.path()), limits).unwrap();
        let searcher = store.searcher().unwrap();
        let (said, chains, held_up) = Default::default();
        Arc::new(Self { store, searcher, said, chains, held_up, _folder: folder })
    }

    /// A window of a series, `x` away from the origin on the first axis.
    pub(crate) fn add(&self, bundle: &str, device: &str, x: f32, alert: &str) -> WindowId {
        let model = Model { digest: bundle.into(), head: "learned".into(), dimensions: 3 };
        let facts = Facts { start: 50, end: x as i64 * 100, sequence: 1, filled: 8, flags: 0, score: 0.5 };
        let window = Window { series: SeriesName::encode(device, "t"), facts, vector: vec![x, 0.0, 0.0] };
        let before = self.store.position().unwrap();
        let mut batch = self.store.batch().unwrap();
        let number = batch.add(&model, &window).unwrap();
        if !alert.is_empty() {
            let (site, _) = device.split_once('/').unwrap();
            batch.tag(&format!("{site}/{alert}"), number).unwrap();
        }
        batch.commit(before.as_deref(), &format!("at {number}")).unwrap();
        number
    }
}

impl Shard for TestLed {
    fn store(&self) -> &Store {
        &self.store
    }

    fn searcher(&self) -> &Searcher {
        &self.searcher
    }

    fn label(self: Arc<Self>, said: Said) -> BoxFuture<'static, Result<bool, Refusal>> {
        async move {
            let Some(window) = self.opener(&said.site, &said.alert)? else {
                return Err(Refusal::new(Why::Missing, format!("no alert {}", said.alert)));
            };
            let label = Label { name: said.label.clone(), origin: said.origin.clone(), time: said.time };
            let before = self.store.position()?;
            let mut batch = self.store.batch()?;
            let holds = batch.label(window, &label)?;
            batch.commit(before.as_deref(), "labelled")?;
            self.said.lock().unwrap().push(said);
            Ok(holds)
        }
        .boxed()
    }

    fn opener(&self, site: &str, alert: &str) -> Result<Option<WindowId>, Refusal> {
        Ok(self.searcher.tagged(&format!("{site}/{alert}"))?.first().copied())
    }

    fn history(&self, site: &str, alert: &str) -> Result<Vec<LabelSaid>, Refusal> {
        let said = self.said.lock().unwrap();
        let about = said.iter().filter(|said| said.site == site && said.alert == alert);
        let told = |said: &Said| LabelSaid { label: said.label.clone(), origin: said.origin.clone(), time: said.time };
        Ok(about.map(told).collect())
    }

    fn sites(&self) -> Vec<String> {
        self.chains.lock().unwrap().iter().map(|chain| chain.site.clone()).collect()
    }

    fn receipts(&self) -> Result<Vec<ChainReceipt>, Refusal> {
        if let Some(held_up) = &*self.held_up.lock().unwrap() {
            let _ = held_up.recv();
        }
        Ok(self.chains.lock().unwrap().clone())
    }

    fn lag_messages(&self) -> u64 {
        7
    }
}

/// A process's view of the region.
pub(crate) struct TestRegion {
    pub(crate) count: u32,
    pub(crate) led: Vec<(u32, Arc<TestLed>)>,
    pub(crate) leaders: Mutex<Vec<Leader>>,
}

impl Region for TestRegion {
    fn count(&self) -> u32 {
        self.count
    }

    fn led(&self) -> Vec<(u32, Arc<dyn Shard>)> {
        self.led.iter().map(|(shard, led)| (*shard, led.clone() as Arc<dyn Shard>)).collect()
    }

    fn leaders(&self) -> Vec<Leader> {
        self.leaders.lock().unwrap().clone()
    }
}

impl TestRegion {
    /// A process that leads these of `count` shards.
    pub(crate) fn new(count: u32, led: &[u32]) -> Arc<Self> {
        let led = led.iter().map(|shard| (*shard, TestLed::new())).collect();
        Arc::new(Self { count, led, leaders: Mutex::default() })
    }

    /// The shard, which is led here.
    pub(crate) fn shard(&self, shard: u32) -> &TestLed {
        &self.led.iter().find(|(led, _)| *led == shard).unwrap().1
    }

    /// A window where its device belongs, if that is led here.
    pub(crate) fn add(&self, device: &str, x: f32, alert: &str) {
        let shard = shard_of(device.split_once('/').unwrap().1, self.count);
        if let Some((_, led)) = self.led.iter().find(|(led, _)| *led == shard) {
            led.add(BUNDLE, device, x, alert);
        }
    }

    pub(crate) fn answers(self: &Arc<Self>, peers: Peers) -> Arc<Answers> {
        Arc::new(Answers::new(self.clone(), peers, clock(), Bounds { calls: 8, at_once: 4, recall: 1.0 }))
    }
}

pub(crate) fn chain(site: &str, last: u64) -> ChainReceipt {
    let (class, chain) = ("alerts".into(), "aa".into());
    ChainReceipt {
        site: site.into(),
        class,
        chain,
        batches: last,
        entries: last,
        first: 1,
        last,
        current: true,
        ..Default::default()
    }
}

/// Long enough for any machine, for what does not depend on it.
pub(crate) const LONG: Duration = Duration::from_secs(60);
