//! Embed: samples become windows, windows become one vector per head of the bundle.
//!
//! Input SAMPLES, output EMBEDDINGS: exactly one row per sample, in order within a series, and every control in its place.
//! A series begins by being *commissioned*: its first samples are held until there are enough to scale by, the scaling
//! freezes, and they all go out at once, flagged. From then on a sample goes out as a row as soon as it comes.
//! After a BREAK flag the window starts afresh. A sample that has a spectrum gives its row the heads that look at spectra, if
//! its series had enough of them during commissioning ([`crate::shape`]).
//!
//! Which bundle that is, controls say ([`crate::roles`]); one that runs in the shadow adds its vectors to the same rows.
//!
//! State: the bundles' digests; per series the held samples, or the scaling and the last `input_window` scaled samples.
//! Ordering: a series' samples in time order, as preprocess gives them. Redelivery: none, the loop suppresses it.
//! A row depends on its series' samples and the controls before it, not on the batch that it came or is computed in.

use std::ops::Range;

use bytes::Bytes;
use eddy_runtime::{
    bundle::{Bundle, Library},
    stage::{Incoming, Input, Outbox, SaveRecord, Scope, Spec, Stage, StateError},
};
use eddy_schemas::{Control, ControlKind, EmbeddingsBuilder, LayoutError, Samples, names, quality, side::Reason};

use crate::{
    Config,
    held::{Held, Sample},
    loaded::Loaded,
    roles::{Disobeyed, KEY, Roles},
    series::{Phase, Scale, Table},
    shape::{Bands, Shape, shape_of},
};

/// What is larger is no measurement; sums and squares of what is taken stay finite.
const VALUE_MAX: f64 = 1e100;
/// Scaled values are kept within this: their squares stay finite as f32.
const SCALED_MAX: f64 = 1e15;
/// A series that does not vary is scaled by this part of 1 + |mean|.
const SPREAD_MIN: f64 = 1e-9;

/// The stage.
pub struct Embed {
    config: Config,
    roles: Roles,
    table: Table,
    /// Slot by dictionary entry of the message in hand.
    slots: Vec<Option<u32>>,
}

impl Stage for Embed {
    const SPEC: Spec = Spec {
        name: "embed",
        inputs: &[Input { stream: "SAMPLES", prefix: "samples", sharded: true }],
        output_stream: "EMBEDDINGS",
        output_prefix: "embeddings",
        stateful: true,
        state_version: 2,
    };
    const DEFAULTS: &'static str = include_str!("../default.toml");
    type Config = Config;
    type Input = Samples;
    type Output = EmbeddingsBuilder;

    fn new(config: Config, _scope: &Scope) -> Result<Self, Vec<String>> {
        let mut problems = config.validate();
        let opened = Bundle::open(&config.bundle, &config.trusted_keys, config.allow_unsigned)
            .map_err(|error| vec![format!("embed.bundle: {error}")])
            .and_then(|bundle| {
                let place = |problem| format!("embed.bundle: {}: {problem}", config.bundle.display());
                Loaded::new(bundle).map_err(|all| all.into_iter().map(place).collect())
            });
        let loaded = match opened {
            Ok(opened) if problems.is_empty() => opened,
            Ok(_) => return Err(problems),
            Err(more) => {
                problems.extend(more);
                return Err(problems);
            }
        };
        let library = Library::new(&config.bundles, &config.trusted_keys, config.allow_unsigned)
            .with_configured(&config.bundle, &loaded.digest);
        let table = Table::new(loaded.width);
        Ok(Self { config, roles: Roles::new(library, loaded), table, slots: Vec::new() })
    }

    fn outputs(&self) -> Vec<EmbeddingsBuilder> {
        vec![self.roles.batch()]
    }

    fn decode(&self, message: &Incoming) -> Result<Samples, (Reason, String)> {
        Samples::decode(&message.payload).map_err(|error| {
            let reason =
                if matches!(error, LayoutError::Version { .. }) { Reason::UnknownVersion } else { Reason::Malformed };
            (reason, error.to_string())
        })
    }

    fn rows(input: &Samples) -> usize {
        input.rows.len()
    }

    fn process(
        &mut self,
        message: &Incoming,
        input: &Samples,
        rows: Range<usize>,
        out: &mut Outbox<EmbeddingsBuilder>,
    ) -> usize {
        // What a panic left behind belongs to rows that were thrown away with it.
        self.roles.all_mut().for_each(Loaded::forget);
        if !self.roles.fit(&mut out.main[0]) {
            out.end_output();
            return rows.start;
        }
        self.reset_slots(input);
        let mut reached = rows.start;
        for row in rows {
            match input.rows.control(row) {
                Some(control) => {
                    self.obey(&control.kind, out);
                    self.infer(out);
                    out.main[0].push_control(control);
                    self.switch(control, out);
                    self.reset_slots(input);
                }
                None => self.take(message, input, row, out),
            }
            reached = row + 1;
            if out.is_full() {
                break;
            }
        }
        self.infer(out);
        // A rise from nothing is seen only if nothing was there to be seen.
        out.count("bundle_refused", 0);
        reached
    }

    fn bundles(&self) -> Vec<(&'static str, String)> {
        ["active", "shadow"].into_iter().zip(self.roles.all().map(|loaded| loaded.digest.clone())).collect()
    }

    fn save(&mut self, record: &mut SaveRecord<'_>) {
        self.roles.save(record);
        self.table.save(record);
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        if key == KEY {
            self.roles.load(value)?;
            self.table.set_width(self.roles.width());
            return Ok(());
        }
        self.table.load(key, value)
    }

    fn clear(&mut self) {
        self.roles.clear();
        self.table = Table::new(self.roles.width());
    }
}

impl Embed {
    /// Digest of the bundle that makes the vectors.
    pub fn bundle_digest(&self) -> &str {
        &self.roles.active.digest
    }

    fn commissioning_rows(&self) -> usize {
        match self.config.commissioning_rows {
            0 => self.roles.active.commissioning_rows,
            rows => rows,
        }
    }

    fn reset_slots(&mut self, input: &Samples) {
        self.slots.clear();
        self.slots.resize(input.rows.names.len(), None);
    }

    /// One measurement's row.
    fn take(&mut self, message: &Incoming, input: &Samples, row: usize, out: &mut Outbox<EmbeddingsBuilder>) {
        let sample = Sample {
            time: input.rows.time[row],
            value: input.value[row],
            quality: input.quality[row],
            period: input.period[row],
        };
        if sample.value.is_nan() || sample.value.abs() > VALUE_MAX {
            let series = input.rows.name(row);
            let detail = format!(
                "row {row}: series {series:?}: value: expected at most {VALUE_MAX:e} either way, found {}",
                sample.value
            );
            let original = format!("{series} {} {}", sample.time, sample.value);
            out.reject(row, message, Reason::InvalidField, detail, 1, Bytes::from(original));
            return;
        }
        let shape = input.spectrum(row).filter(|_| self.roles.all().any(Loaded::takes_spectra)).map(shape_of);
        let commissioning_rows = self.commissioning_rows();
        let known = &mut self.slots[input.rows.series[row] as usize];
        let slot = *known.get_or_insert_with(|| self.table.slot(input.rows.name(row)));
        let (series, _) = self.table.change(slot);
        match &mut series.phase {
            Phase::Commissioning(held) => {
                if let Some(shape) = &shape {
                    let row = held.len();
                    held.shapes.push(row, shape);
                }
                held.push(sample);
                if held.len() >= commissioning_rows {
                    self.commission(slot, out);
                    out.count("commissioned", 1);
                }
            }
            Phase::Running(scale) => {
                let scale = *scale;
                self.emit(slot, scale, sample, shape.as_ref(), false, out);
            }
        }
    }

    /// Freezes the scaling of a series and lets its held samples go.
    fn commission(&mut self, slot: u32, out: &mut Outbox<EmbeddingsBuilder>) {
        let Phase::Commissioning(held) = &self.table.get(slot).phase else { return };
        if held.len() == 0 {
            return;
        }
        let (scale, bands) = (scale_of(held), Bands::of(&held.shapes));
        if let Phase::Commissioning(held) = self.table.enter(slot, Phase::Running(scale)) {
            self.table.change(slot).0.bands = bands.map(Box::new);
            let mut shapes = held.shapes.iter().peekable();
            for (row, sample) in held.iter().enumerate() {
                let shape = shapes.next_if(|(at, _)| *at == row).map(|(_, shape)| shape);
                self.emit(slot, scale, sample, shape.as_ref(), true, out);
            }
        }
    }

    /// Adds a sample to its series' window, and the window to the output.
    fn emit(
        &mut self,
        slot: u32,
        scale: Scale,
        sample: Sample,
        shape: Option<&Shape>,
        commissioning: bool,
        out: &mut Outbox<EmbeddingsBuilder>,
    ) {
        let scaled = ((sample.value - scale.mean) / scale.sd).clamp(-SCALED_MAX, SCALED_MAX) as f32;
        let (series, window) = self.table.change(slot);
        if series.filled == 0 || sample.quality & quality::BREAK != 0 {
            window.fill(scaled);
            series.filled = 1;
        } else {
            let last = window.len() - 1;
            window.copy_within(1.., 0);
            window[last] = scaled;
            // A window has at most 4,096 samples.
            series.filled = (usize::from(series.filled) + 1).min(window.len()) as u16;
        }
        self.roles.all_mut().for_each(|loaded| loaded.gather(window));
        out.main[0].push(&series.name, sample.time, sample.quality, series.filled, commissioning, sample.period);
        match (shape, &series.bands) {
            (Some(shape), Some(bands)) => {
                let scaled = bands.scale(shape);
                self.roles.all_mut().for_each(|loaded| loaded.gather_shape(&scaled));
                out.main[0].push_optional();
            }
            // Bursts began after commissioning: re-commissioning the device lets them count.
            (Some(_), None) => out.count("spectrum_unscaled", 1),
            (None, _) => {}
        }
        if self.roles.active.waiting() >= self.config.inference_batch_max {
            self.infer(out);
        }
    }

    /// Computes the vectors of the rows that wait for them.
    fn infer(&mut self, out: &mut Outbox<EmbeddingsBuilder>) {
        let batch = &mut out.main[0];
        self.roles.active.infer(|head, vectors| batch.extend_head(head, vectors));
        if let Some(shadow) = &mut self.roles.shadow {
            shadow.infer(|head, vectors| batch.extend_shadow_head(head, vectors));
        }
    }

    /// Changes the bundles that run, if that is what a control says; the rows behind it are an output of their own.
    fn switch(&mut self, control: &Control, out: &mut Outbox<EmbeddingsBuilder>) {
        let ControlKind::Bundle { digest, action } = &control.kind else { return };
        out.end_output();
        match self.roles.obey(digest, *action) {
            Ok(()) => self.table.set_width(self.roles.width()),
            Err(Disobeyed::Away(problem)) => out.stop(format!(
                "control {:?} says {} bundle {digest}, which cannot be had: {problem}: bring it back, and this stage goes on",
                control.id,
                action.as_str()
            )),
            Err(Disobeyed::Unfit(problem)) => {
                tracing::error!(
                    control = control.id,
                    problem,
                    "the bundle cannot run here: everything goes on as it was"
                );
                out.count("bundle_refused", 1);
            }
        }
    }

    /// Does what a control asks of embed. Samples that are still held go out before it: each is one row, whatever comes.
    fn obey(&mut self, kind: &ControlKind, out: &mut Outbox<EmbeddingsBuilder>) {
        let (device, forget) = match kind {
            ControlKind::DeviceReset { device } => (device, true),
            ControlKind::Recommission { device } => (device, false),
            ControlKind::Label { .. }
            | ControlKind::Acknowledge { .. }
            | ControlKind::Maintenance { .. }
            | ControlKind::RegionLabel { .. }
            | ControlKind::Bundle { .. } => return,
        };
        for slot in self.table.device(&names::encode(device)) {
            self.commission(slot, out);
            if forget {
                self.table.remove(slot);
            } else {
                self.table.enter(slot, Phase::Commissioning(Box::default()));
            }
        }
    }
}

/// Mean and standard deviation, summed in order of time.
fn scale_of(held: &Held) -> Scale {
    let n = held.len() as f64;
    let mean = held.iter().map(|sample| sample.value).sum::<f64>() / n;
    let variance = held.iter().map(|sample| (sample.value - mean).powi(2)).sum::<f64>() / n;
    Scale { mean, sd: variance.sqrt().max(SPREAD_MIN * (1.0 + mean.abs())) }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
