//! The judges at work: the active bundle's, and that of the bundle in the shadow, if there is one.
//!
//! Which bundles these are stands in each message of EMBEDDINGS: embed obeys the controls, and detect follows embed. Each judge
//! has a *place*, 0 or 1, for its records, and keeps it when the two change roles.

use std::collections::VecDeque;

use eddy_runtime::{
    bundle::{BundleError, Library},
    position::Seen,
    stage::{AlertMessage, Outbox, SaveRecord, StateError},
    state::Pieces,
};
use eddy_schemas::{ControlKind, Embeddings, HeadColumn, ScoresBuilder, ShadowReport, alert::Phase};

use crate::{
    judge::{Court, Judge, Row},
    plan::Plan,
    tally::{TALLY, Tally},
};

/// The record of the roles: a line with the active judge's place; per place a line with its judge's bundle, whether it joined another
/// one and whether it was active before, empty where there is none. It sorts before all others.
const ROLES: &[u8] = b"a";
const JOINED: &str = "joined";
const FIRST: &str = "first";
const WAS_ACTIVE: &str = "was-active";
const NEW: &str = "new";
/// The record of what is still to be told of judges that are gone; not there where there is nothing.
const FAREWELL: &[u8] = b"e";
/// How much of that goes out with a row.
const FAREWELLS_A_ROW: usize = 50;
/// Before the keys of the records of place 1.
const SECOND: u8 = b'~';

/// Why a bundle's plan cannot be had.
#[derive(Debug, thiserror::Error)]
enum Missing {
    /// The bundle is not there at this time.
    #[error("{0}")]
    Away(String),
    /// It is there, or never can be, and is no good for detection.
    #[error("{0}")]
    Unfit(String),
}

/// The judges, by place.
pub(crate) struct Panel {
    library: Library,
    configured: Plan,
    places: [Option<Judge>; 2],
    active: usize,
    tally: Tally,
    /// A snapshot is being told whose devices have not all had their turn.
    is_telling: bool,
    /// Keys of judges that are gone, until they are saved.
    gone: Vec<Vec<u8>>,
    /// Records of the snapshot that is being told, under their keys there.
    early: Pieces,
    /// Ends of episodes that such judges told of, subject and event, and whether that is to be saved.
    farewell: (VecDeque<(String, String)>, bool),
    is_saved: bool,
    /// Series were loaded that nobody has counted.
    is_loaded: bool,
}

impl Panel {
    pub(crate) fn new(library: Library, configured: Plan) -> Self {
        let first = Judge::new(configured.clone(), false);
        Self {
            library,
            configured,
            places: [Some(first), None],
            active: 0,
            tally: Tally::default(),
            is_telling: false,
            gone: Vec::new(),
            early: Pieces::default(),
            farewell: Default::default(),
            is_saved: false,
            is_loaded: false,
        }
    }

    pub(crate) fn active(&self) -> &Judge {
        self.places[self.active]
            .as_ref()
            .expect("the active place is never empty: a judge leaves it only for another one")
    }

    pub(crate) fn active_mut(&mut self) -> &mut Judge {
        self.places[self.active]
            .as_mut()
            .expect("the active place is never empty: a judge leaves it only for another one")
    }

    fn shadow(&self) -> Option<&Judge> {
        self.places[1 - self.active].as_ref()
    }

    /// An empty batch of the active bundle's scores.
    pub(crate) fn batch(&self) -> ScoresBuilder {
        ScoresBuilder::new(&self.active().plan.digest)
    }

    /// Gives an output that has not begun the name of the active bundle.
    pub(crate) fn fit(&self, batch: &mut ScoresBuilder) {
        if batch.bundle() != self.active().plan.digest && batch.is_empty() {
            *batch = self.batch();
        }
    }

    /// Why a batch cannot be judged, if it cannot: its bundles are not at hand, or its heads are not theirs.
    pub(crate) fn refuses(&self, batch: &Embeddings) -> Option<String> {
        let shadow = batch.shadow.iter().map(|shadow| (&shadow.bundle, &shadow.heads));
        [(&batch.bundle, &batch.heads)].into_iter().chain(shadow).find_map(|(digest, heads)| self.misfit(digest, heads))
    }

    fn misfit(&self, digest: &str, heads: &[HeadColumn]) -> Option<String> {
        let known = self.places.iter().flatten().find(|judge| judge.plan.digest == digest);
        match known {
            Some(judge) => judge.plan.misfit(heads),
            None => match self.plan(digest) {
                Ok(plan) => plan.misfit(heads),
                // Embed had it: the rows wait until it is back.
                Err(Missing::Away(_)) => None,
                Err(Missing::Unfit(problem)) => Some(format!(
                    "made by bundle {digest}, this stage judges by {}, and cannot by the other: {problem}",
                    self.active().plan.digest
                )),
            },
        }
    }

    fn plan(&self, digest: &str) -> Result<Plan, Missing> {
        let bundle = self.library.open(digest).map_err(|error| match error {
            // A stage without a folder never had any but its own.
            BundleError::NoFolder { .. } => Missing::Unfit(error.to_string()),
            error => Missing::Away(error.to_string()),
        })?;
        Plan::new(&bundle.manifest, digest).map_err(|problems| Missing::Unfit(problems.join("; ")))
    }

    /// Takes the roles that a message is of.
    ///
    /// # Errors
    /// A bundle of it that cannot be had at this time: nothing has changed.
    pub(crate) fn follow(&mut self, court: &Court, batch: &Embeddings) -> Result<(), String> {
        let shadow = batch.shadow.as_ref().map(|shadow| shadow.bundle.as_str());
        if self.active().plan.digest == batch.bundle && self.shadow().map(|judge| judge.plan.digest.as_str()) == shadow
        {
            return Ok(());
        }
        let wanted = [Some(batch.bundle.as_str()), shadow];
        let mut plans = Vec::new();
        for digest in wanted.into_iter().flatten().filter(|digest| self.seat_of(digest).is_none()) {
            plans.push(self.plan(digest).map_err(|missing| {
                format!("rows of bundle {digest} came, which cannot be had: {missing}: bring it back, and this stage goes on")
            })?);
        }
        // A replay begins with the roles that were, and comes through this again.
        self.tell_all_early();
        if self.active().plan.digest != batch.bundle {
            self.active_mut().was_active = true;
        }
        // The active one makes room last: who joins learns from it which devices are under maintenance.
        let other = 1 - self.active;
        if self.places[other].as_ref().is_some_and(|judge| !wanted.contains(&Some(judge.plan.digest.as_str()))) {
            self.dismiss(court, other);
        }
        for plan in plans {
            self.appoint(court, plan);
        }
        self.active = self.seat_of(&batch.bundle).unwrap_or(self.active);
        if shadow.is_none() {
            self.dismiss(court, 1 - self.active);
        }
        if let Some(judge) = &mut self.places[1 - self.active] {
            judge.count_warm();
        }
        self.tally.begin();
        self.is_saved = false;
        Ok(())
    }

    /// Where the judge of a bundle sits.
    fn seat_of(&self, digest: &str) -> Option<usize> {
        self.places.iter().position(|judge| judge.as_ref().is_some_and(|judge| judge.plan.digest == digest))
    }

    /// Gives a bundle that has none a judge, at the place that is free, or else at the active one's.
    fn appoint(&mut self, court: &Court, plan: Plan) {
        let mut judge = Judge::new(plan, true);
        for (token, until) in self.active().registry.maintained() {
            judge.maintain_unseen(court, &token, until);
        }
        let seat = self.places.iter().position(Option::is_none).unwrap_or(self.active);
        self.dismiss(court, seat);
        self.places[seat] = Some(judge);
    }

    /// Forgets a judge and its records; of what it has told the end is still to be told.
    fn dismiss(&mut self, court: &Court, place: usize) {
        if let Some(mut judge) = self.places[place].take() {
            for event in judge.farewell(court) {
                self.farewell.0.push_back((event.subject, String::from_utf8_lossy(&event.payload).into_owned()));
                self.farewell.1 = true;
            }
            let (keys, mut early) = judge.registry.remove_all(&judge.plan);
            self.gone.extend(keys.into_iter().map(|key| placed(place, &key)));
            while let Some(piece) = early.pop() {
                piece.iter().for_each(|(key, value)| self.early.push(&placed(place, key), value));
            }
        }
    }

    /// Tells some of what judges that are gone have left to tell.
    fn tell_farewells(&mut self, out: &mut Outbox<ScoresBuilder>) {
        for _ in 0..FAREWELLS_A_ROW.min(self.farewell.0.len()) {
            let Some((subject, json)) = self.farewell.0.pop_front() else { break };
            out.count(Phase::Closed.as_str(), 1);
            out.alerts.push(AlertMessage { subject, payload: json.into_bytes() });
            self.farewell.1 = true;
        }
    }

    /// A message begins: the first one after a load counts.
    pub(crate) fn begin(&mut self, input: &Embeddings) {
        let shadow = 1 - self.active;
        self.active_mut().begin(input, &input.heads);
        if let (Some(judge), Some(vectors)) = (&mut self.places[shadow], &input.shadow) {
            judge.begin(input, &vectors.heads);
            if std::mem::take(&mut self.is_loaded) {
                judge.count_warm();
            }
        }
    }

    /// A control may have removed series.
    pub(crate) fn reset_slots(&mut self, input: &Embeddings) {
        self.places.iter_mut().flatten().for_each(|judge| judge.reset_slots(input));
    }

    /// A row, before the judge in the shadow first: what it has told ends before the other one's begins.
    pub(crate) fn take(&mut self, court: &Court, at: Row<'_>, out: &mut Outbox<ScoresBuilder>) {
        self.tell_farewells(out);
        let shadow = 1 - self.active;
        let mut beside = None;
        if let (Some(judge), Some(vectors)) = (&mut self.places[shadow], &at.input.shadow) {
            beside = judge.take_in_shadow(court, Row { heads: &vectors.heads, ..at }, out);
        }
        let told = self.active_mut().take(court, at, out);
        self.tally.count(Seen::row(at.message.sequence, at.row), beside, told);
    }

    /// How the judge in the shadow does, if there is one.
    pub(crate) fn report(&self) -> Option<ShadowReport> {
        let judge = self.shadow()?;
        let Tally { rows, opened, told, .. } = self.tally;
        let (bundle, series) = (judge.plan.digest.clone(), judge.registry.len() as u64);
        Some(ShadowReport { bundle, series, warm: judge.warm, rows, opened, told, was_active: judge.was_active })
    }

    /// A control, before each judge.
    pub(crate) fn obey(&mut self, court: &Court, kind: &ControlKind, out: &mut Outbox<ScoresBuilder>) {
        let meant = match kind {
            ControlKind::Label { device, alert, .. } => {
                self.places.iter().flatten().any(|judge| judge.knows_alert(court, device, alert))
            }
            _ => false,
        };
        for place in [1 - self.active, self.active] {
            if let Some(judge) = &mut self.places[place] {
                judge.obey(court, kind, meant, out);
            }
        }
        if let Some(judge) = &mut self.places[1 - self.active] {
            judge.count_warm();
        }
    }

    /// A snapshot begins, of what has changed so far: what is not of one device is told at once, but for the tally.
    pub(crate) fn begin_save(&mut self) {
        self.is_telling = true;
        // What was removed first: a judge that came to its place since writes over it.
        self.gone.drain(..).for_each(|key| self.early.push(&key, None));
        if !std::mem::replace(&mut self.is_saved, true) {
            let line = |judge: &Option<Judge>| {
                let joined = |judge: &Judge| if judge.joined { JOINED } else { FIRST };
                let before = |judge: &Judge| if judge.was_active { WAS_ACTIVE } else { NEW };
                let words = |judge: &Judge| format!("{} {} {}", judge.plan.digest, joined(judge), before(judge));
                judge.as_ref().map_or_else(String::new, words)
            };
            let [first, second] = self.places.each_ref().map(line);
            let text = format!("{}\n{first}\n{second}\n", self.active);
            self.early.push(ROLES, Some(text.as_bytes()));
        }
        if std::mem::take(&mut self.farewell.1) {
            let json = serde_json::to_vec(&self.farewell.0).expect("pairs of texts always serialize");
            self.early.push(FAREWELL, (!self.farewell.0.is_empty()).then_some(&json));
        }
        self.places.iter_mut().flatten().for_each(|judge| judge.registry.begin_save(&judge.plan));
    }

    /// Tells a part of the snapshot, the records of up to `at_most` devices; whether all of it is told.
    pub(crate) fn save_some(&mut self, mut at_most: usize, tell: &mut SaveRecord<'_>) -> bool {
        while let Some(piece) = self.early.pop() {
            piece.iter().for_each(|(key, value)| tell(key, value));
        }
        let mut whole = true;
        for (place, judge) in self.places.iter_mut().enumerate() {
            if let Some(judge) = judge {
                let mut tell = |key: &[u8], value: Option<&[u8]>| tell(&placed(place, key), value);
                whole &= judge.registry.save_some(&judge.plan, &mut at_most, &mut tell);
            }
        }
        if whole && std::mem::take(&mut self.is_telling) {
            self.tally.save(tell);
        }
        whole
    }

    /// Tells all that is left of a snapshot as it is now.
    fn tell_all_early(&mut self) {
        self.places.iter_mut().flatten().for_each(|judge| judge.registry.tell_all_early(&judge.plan));
        if std::mem::take(&mut self.is_telling) {
            let Self { tally, early, .. } = self;
            tally.save(&mut |key, value| early.push(key, value));
        }
    }

    /// All records are back.
    pub(crate) fn loaded(&mut self, seen: Seen) {
        self.places.iter_mut().flatten().for_each(|judge| judge.registry.loaded(seen));
    }

    pub(crate) fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let wrong = |problem: String| StateError { key: String::from_utf8_lossy(key).into_owned(), problem };
        if key == ROLES {
            return self.load_roles(value).map_err(wrong);
        }
        if key == TALLY {
            self.tally = Tally::load(value).map_err(wrong)?;
            return Ok(());
        }
        if key == FAREWELL {
            self.farewell.0 = serde_json::from_slice(value).map_err(|error| wrong(error.to_string()))?;
            return Ok(());
        }
        let (place, own) = match key.split_first() {
            Some((&SECOND, own)) => (1, own),
            _ => (0, key),
        };
        let none = || wrong("a record of a judge that the roles do not name".into());
        let judge = self.places[place].as_mut().ok_or_else(none)?;
        judge.registry.load(&judge.plan, own, value)
    }

    fn load_roles(&mut self, value: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(value).map_err(|error| error.to_string())?;
        let mut lines = text.lines();
        self.active = match lines.next() {
            Some("0") => 0,
            Some("1") => 1,
            other => return Err(format!("expected the active place, 0 or 1, found {other:?}")),
        };
        for place in 0..2 {
            self.places[place] = match lines.next().and_then(|line| line.split_once(' ')) {
                None => None,
                Some((digest, words)) => {
                    let plan = if digest == self.configured.digest {
                        self.configured.clone()
                    } else {
                        self.plan(digest).map_err(|missing| {
                            format!("made with it, and it cannot be had: {missing}: bring it back, or clear this stage's state")
                        })?
                    };
                    let mut judge = Judge::new(plan, words.starts_with(JOINED));
                    judge.was_active = words.ends_with(WAS_ACTIVE);
                    Some(judge)
                }
            };
        }
        if let Some(line) = lines.next() {
            self.tally = Tally::load_older(line)?;
        }
        self.is_loaded = true;
        if self.places[self.active].is_none() {
            return Err(format!("place {} is the active one, and empty", self.active));
        }
        self.is_saved = true;
        Ok(())
    }

    /// Back to the configured bundle alone, nothing known of any device.
    pub(crate) fn clear(&mut self) {
        self.places = [Some(Judge::new(self.configured.clone(), false)), None];
        self.active = 0;
        self.tally = Tally::default();
        self.is_telling = false;
        self.gone.clear();
        self.early.clear();
        self.farewell = Default::default();
        self.is_saved = false;
    }
}

/// A record's key at its place.
fn placed(place: usize, key: &[u8]) -> Vec<u8> {
    match place {
        0 => key.to_vec(),
        _ => [&[SECOND], key].concat(),
    }
}
