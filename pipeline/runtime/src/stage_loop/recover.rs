//! Where a stage goes on: checkpoint, saved state and streams, held against each other.

use super::*;
use crate::{
    bus::{Publication, PublishError, StreamState},
    position::{HEADER, Place, Seen},
    state::{Coverage, Records},
};

/// The state folder of a stage instance.
fn store_path<S: Stage>(scope: &Scope, config: &CommonConfig) -> std::path::PathBuf {
    config.state.dir.join(format!("{}-{}", S::SPEC.name, scope.shard))
}

pub(super) fn open_store<S: Stage>(scope: &Scope, config: &CommonConfig) -> Result<Option<StateStore>, LoopError> {
    if !S::SPEC.stateful {
        return Ok(None);
    }
    let map_bytes = (config.state.map_size_mb as usize) << 20;
    let path = store_path::<S>(scope, config);
    Ok(Some(StateStore::open(&path, S::SPEC.name, S::SPEC.state_version, map_bytes)?))
}

/// Whether the state that lies there, if any does, is of a layout that this release reads; nothing is written.
///
/// # Errors
/// That it is not, with the way out.
pub(crate) fn check_state<S: Stage>(config: &CommonConfig) -> Result<(), StoreError> {
    let path = store_path::<S>(&config.scope(), config);
    if !S::SPEC.stateful || !path.exists() {
        return Ok(());
    }
    state::check(&path, S::SPEC.name, S::SPEC.state_version)
}

pub(super) fn sources<S: Stage>(scope: &Scope, config: &CommonConfig) -> Vec<Source> {
    let site = eddy_schemas::names::encode(&scope.site);
    let of = |input: &crate::stage::Input| Source {
        stream: input.stream.to_owned(),
        durable: if input.sharded { format!("{}-{}", S::SPEC.name, scope.shard) } else { S::SPEC.name.to_owned() },
        filter: if input.sharded {
            format!("{}.{site}.{}", input.prefix, scope.shard)
        } else {
            format!("{}.{site}.>", input.prefix)
        },
        ack_pending_max: config.limits.ack_pending_max as i64,
        ack_wait: Duration::from_secs(config.limits.ack_wait_s),
    };
    S::SPEC.inputs.iter().map(of).collect()
}

/// Capture writes every shard's subject; all others their own.
pub(super) fn output_subjects<S: Stage>(stage: &S, scope: &Scope) -> Vec<OutputSubject> {
    let site = eddy_schemas::names::encode(&scope.site);
    let shards = stage.outputs().len();
    let shard_of = |index: usize| if shards > 1 { index as u32 } else { scope.shard };
    (0..shards)
        .map(|index| OutputSubject {
            subject: format!("{}.{site}.{}", S::SPEC.output_prefix, shard_of(index)),
            last_sequence: 0,
        })
        .collect()
}

impl<S: Stage, B: Bus> Runner<S, B> {
    /// Reads checkpoint and state, checks that they fit the streams, loads the state, and opens the feeds.
    pub(super) async fn recover(&mut self) -> Result<(), Interrupt> {
        // A commit in flight belongs to the memory that is given up; its outcome shows in the store.
        self.abandon_commit().await;
        self.abandon_output().await;
        self.outbox.clear();
        self.hop.clear();
        self.late.clear();
        self.rejected.clear();
        // State, then checkpoint, then streams: another instance may be moving them on meanwhile, and each is read no later
        // than what it must not be ahead of.
        self.load_state()?;
        self.read_checkpoint().await?;
        let mut streams = Vec::new();
        for source in &self.sources {
            streams.push(self.bus.stream(&source.stream).await.map_err(Interrupt::from_bus)?);
        }
        self.incarnations = streams.iter().map(|stream| stream.incarnation).collect();
        self.read_sides().await?;
        self.check_positions(&streams)?;
        let start = if self.store.is_some() { self.saved.clone().unwrap_or_default() } else { self.checkpoint.clone() };
        self.reached = start;
        for (source, stream) in self.sources.iter().zip(&streams) {
            if self.reached.place(&source.stream).is_none() {
                self.reached.set(&source.stream, Place::whole(stream.incarnation, stream.first_sequence - 1));
            }
        }
        tracing::info!(
            from = %self.reached,
            checkpoint = %self.checkpoint,
            replay = self.checkpoint.is_ahead_of(&self.reached),
            "recovered"
        );
        self.open_feeds().await
    }

    /// Goes on with what is in memory after the feeds were lost. Another instance may have taken them, so the output is claimed
    /// first: of two instances that take them from each other without having anything to publish, neither would ever learn
    /// of the other.
    pub(super) async fn reopen(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Interrupt> {
        self.claim(stop).await?;
        self.open_feeds().await
    }

    /// Opens the feeds where a restart would: at the saved state, so that no ack floor passes it. What the memory has
    /// processed already is skipped as it comes.
    async fn open_feeds(&mut self) -> Result<(), Interrupt> {
        self.feeds.clear();
        self.in_flight.clear();
        self.tokens.iter_mut().for_each(|token| *token = None);
        let safe = if self.store.is_some() { self.saved.as_ref() } else { Some(&self.reached) };
        for source in &self.sources {
            let from = safe.and_then(|safe| safe.place(&source.stream)).map_or(1, Place::next_sequence);
            self.feeds.push(self.bus.open(source, from).await.map_err(Interrupt::from_bus)?);
        }
        Ok(())
    }

    async fn read_checkpoint(&mut self) -> Result<(), Interrupt> {
        self.checkpoint = Position::default();
        for output in &mut self.outputs {
            let last = self.bus.last(S::SPEC.output_stream, &output.subject).await.map_err(Interrupt::from_bus)?;
            output.last_sequence = last.as_ref().map_or(0, |last| last.sequence);
            let Some(last) = last else { continue };
            let found = last.header(HEADER).unwrap_or_default();
            let position: Position =
                found.parse().ok().filter(|position: &Position| !position.0.is_empty()).ok_or_else(|| {
                    LoopError::Contract(format!(
                        "message {} on {} names no position ({HEADER}: {found:?}): something else published there; \
                     remove it, or run `eddy-{} recover`",
                        last.sequence,
                        output.subject,
                        S::SPEC.name
                    ))
                })?;
            if position.is_ahead_of(&self.checkpoint) {
                self.checkpoint = position;
            }
        }
        Ok(())
    }

    async fn read_sides(&mut self) -> Result<(), Interrupt> {
        for side in [&mut self.late_side, &mut self.dead_side] {
            let last = self.bus.last("SIDE", &side.subject).await.map_err(Interrupt::from_bus)?;
            side.last_sequence = last.as_ref().map_or(0, |last| last.sequence);
            let reached = last.as_ref().and_then(|last| last.header(HEADER)).and_then(|text| text.parse().ok());
            side.reached = reached.unwrap_or_default();
            // Places of a stream that was recreated since mean nothing.
            for (source, incarnation) in self.sources.iter().zip(&self.incarnations) {
                if side.reached.place(&source.stream).is_some_and(|place| place.incarnation != *incarnation) {
                    side.reached.0.remove(&source.stream);
                }
            }
        }
        Ok(())
    }

    fn load_state(&mut self) -> Result<(), Interrupt> {
        self.stage.clear();
        (self.saved, self.seen) = (None, None);
        let Some(store) = &self.store else { return Ok(()) };
        let stage = &mut self.stage;
        let loaded = store.load::<LoopError>(S::SPEC.name, |key, value| {
            stage.load(key, value).map_err(|error| {
                LoopError::Contract(format!("{error}; run `eddy-{} recover` to start afresh", S::SPEC.name))
            })
        })?;
        let Some(Coverage { all, some }) = loaded else { return Ok(()) };
        // A stage that tells its state while rows come has one input.
        let place = S::SPEC.inputs.iter().find_map(|input| some.place(input.stream));
        stage.loaded(place.map(Seen::from).unwrap_or_default());
        (self.saved, self.seen) = (Some(all), Some(some));
        Ok(())
    }

    /// A re-imaged gateway must not be taken for an old one, nor an old backup for today's streams.
    fn check_positions(&self, streams: &[StreamState]) -> Result<(), LoopError> {
        let name = S::SPEC.name;
        let way_out = format!("run `eddy-{name} recover` to accept it: {name} forgets its state and starts afresh");
        for (source, stream) in self.sources.iter().zip(streams) {
            let input = &source.stream;
            let (saved, seen) = (self.saved.as_ref(), self.seen.as_ref());
            let positions = [("its checkpoint", Some(&self.checkpoint)), ("its state", saved), ("its state", seen)];
            for (what, place) in positions.iter().filter_map(|(what, p)| Some((what, p.and_then(|p| p.place(input))?)))
            {
                if place.incarnation != stream.incarnation {
                    return Err(LoopError::Contract(format!(
                        "stream {input} was created at {}, but {what} belongs to one created at {}: {way_out}",
                        eddy_schemas::rfc3339(stream.incarnation),
                        eddy_schemas::rfc3339(place.incarnation)
                    )));
                }
                if place.sequence > stream.last_sequence {
                    return Err(LoopError::Contract(format!(
                        "{what} is at message {} of {input}, which ends at {}: an older copy of the stream was restored; {way_out}",
                        place.sequence, stream.last_sequence
                    )));
                }
            }
            if self.store.is_some() {
                self.check_state(input, stream, &way_out)?;
            }
        }
        Ok(())
    }

    fn check_state(&self, input: &str, stream: &StreamState, way_out: &str) -> Result<(), LoopError> {
        let name = S::SPEC.name;
        let out = S::SPEC.output_stream;
        let seen = self.seen.as_ref().or(self.saved.as_ref());
        match &self.saved {
            Some(saved) if seen.unwrap_or(saved).is_ahead_of(&self.checkpoint) => Err(LoopError::Contract(format!(
                "{name}'s state reaches {}, but its checkpoint in {out} only {:?}: the output was lost; {way_out}",
                seen.unwrap_or(saved),
                self.checkpoint.to_string()
            ))),
            Some(saved) => {
                let next = saved.place(input).map_or(1, Place::next_sequence);
                if next < stream.first_sequence {
                    return Err(LoopError::Contract(format!(
                        "{name}'s state needs {input} from message {next} on, but it begins at {}; {way_out}",
                        stream.first_sequence
                    )));
                }
                Ok(())
            }
            None if self.checkpoint.place(input).is_some_and(|place| place.sequence > 0)
                && stream.first_sequence > 1 =>
            {
                Err(LoopError::Contract(format!(
                    "{name} has a checkpoint ({}) but no state, and {input} no longer holds its messages from 1 on, from \
                     which the state could be made again; restore the state folder, or {way_out}",
                    self.checkpoint
                )))
            }
            None => Ok(()),
        }
    }
}

/// Accepts that state and checkpoint are lost: removes the state and publishes an empty checkpoint at the input's first
/// message (`from_now`: past its last). The stage must not be running.
///
/// # Errors
/// If the bus does not answer or the state folder cannot be removed.
pub async fn start_afresh<S: Stage, B: Bus>(
    stage: &S,
    scope: &Scope,
    config: &CommonConfig,
    bus: &B,
    from_now: bool,
) -> Result<Position, LoopError> {
    let failed = |error: BusError| LoopError::Failed(error.to_string());
    let mut position = Position::default();
    for source in sources::<S>(scope, config) {
        let stream = bus.stream(&source.stream).await.map_err(failed)?;
        let covered = if from_now { stream.last_sequence } else { stream.first_sequence - 1 };
        position.set(&source.stream, Place::whole(stream.incarnation, covered));
    }
    let path = store_path::<S>(scope, config);
    if S::SPEC.stateful && path.exists() {
        std::fs::remove_dir_all(&path).map_err(|source| StoreError::Io { path: path.clone(), source })?;
    }
    let mut messages = Vec::new();
    for (output, mut batch) in output_subjects::<S>(stage, scope).into_iter().zip(stage.outputs()) {
        let last = bus.last(S::SPEC.output_stream, &output.subject).await.map_err(failed)?;
        messages.push(Publication {
            stream: S::SPEC.output_stream.to_owned(),
            subject: output.subject,
            headers: vec![(HEADER.to_owned(), position.to_string())],
            payload: crate::stage::Batch::encode(&mut batch).into(),
            guard: Some(last.map_or(0, |last| last.sequence)),
        });
    }
    bus.publish(messages).await.map_err(|error: PublishError| LoopError::Failed(error.to_string()))?;
    if S::SPEC.stateful {
        // State at the same place, empty: the next start finds state and checkpoint in step.
        if let Some(store) = open_store::<S>(scope, config)? {
            store.commit(None, &position, &Records::default())?;
        }
    }
    Ok(position)
}
