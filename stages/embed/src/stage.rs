//! Embed: samples become windows, windows become one vector per head of the bundle.
//!
//! Input SAMPLES, output EMBEDDINGS: exactly one row per sample, in order within a series, and every control in its place.
//! A series begins by being *commissioned*: its first samples are held until there are enough to scale by, the scaling
//! freezes, and they all go out at once, flagged. From then on a sample goes out as a row as soon as it comes.
//! After a BREAK flag the window starts afresh. A sample that has a spectrum gives its row the heads that look at spectra, if
//! its series had enough of them during commissioning ([`crate::shape`]).
//!
//! State: per series the held samples, or the scaling and the last `input_window` scaled samples.
//! Ordering: a series' samples in time order, as preprocess gives them. Redelivery: none, the loop suppresses it.
//! A row depends on its series' samples and the controls before it, not on the batch that it came or is computed in.

use std::ops::Range;

use bytes::Bytes;
use eddy_runtime::{
    bundle::{Bundle, Head, HeadInput},
    stage::{Incoming, Input, Outbox, SaveRecord, Scope, Spec, Stage, StateError},
};
use eddy_schemas::{ControlKind, EmbeddingsBuilder, HeadLayout, LayoutError, Samples, names, quality, side::Reason};

use crate::{
    Config,
    held::{Held, Sample},
    model::Model,
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
    digest: String,
    heads: Vec<HeadLayout>,
    commissioning_rows: usize,
    windows_max: usize,
    model: Model,
    table: Table,
    /// Windows of rows that stand in the output already and wait for their vectors.
    gathered: Vec<f32>,
    /// The same of scaled shapes.
    gathered_shapes: Vec<f32>,
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
                let model = Model::new(&bundle.onnx, &bundle.manifest);
                model.map(|model| (bundle, model)).map_err(|all| all.into_iter().map(place).collect())
            });
        let (bundle, model) = match opened {
            Ok(opened) if problems.is_empty() => opened,
            Ok(_) => return Err(problems),
            Err(more) => {
                problems.extend(more);
                return Err(problems);
            }
        };
        let manifest = bundle.manifest;
        let layout = |head: &Head| HeadLayout {
            name: head.name.clone(),
            dimensions: head.dimensions,
            optional: head.input == HeadInput::Spectrum,
        };
        Ok(Self {
            digest: bundle.digest,
            heads: manifest.heads.iter().map(layout).collect(),
            commissioning_rows: match config.commissioning_rows {
                0 => manifest.commissioning_rows,
                rows => rows,
            },
            windows_max: config.inference_batch_max * manifest.input_window,
            model,
            table: Table::new(manifest.input_window),
            gathered: Vec::new(),
            gathered_shapes: Vec::new(),
            slots: Vec::new(),
        })
    }

    fn outputs(&self) -> Vec<EmbeddingsBuilder> {
        vec![EmbeddingsBuilder::new(&self.digest, &self.heads)]
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
        self.gathered.clear();
        self.gathered_shapes.clear();
        self.reset_slots(input);
        let mut reached = rows.start;
        for row in rows {
            match input.rows.control(row) {
                Some(control) => {
                    self.obey(&control.kind, out);
                    self.infer(out);
                    out.main[0].push_control(control);
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
        reached
    }

    fn save(&mut self, record: &mut SaveRecord<'_>) {
        self.table.save(record);
    }

    fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.table.load(key, value)
    }

    fn clear(&mut self) {
        self.table.clear();
        self.gathered.clear();
        self.gathered_shapes.clear();
    }
}

impl Embed {
    /// Digest of the bundle that makes the vectors.
    pub fn bundle_digest(&self) -> &str {
        &self.digest
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
        let shape = input.spectrum(row).filter(|_| self.model.takes_spectra()).map(shape_of);
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
                if held.len() >= self.commissioning_rows {
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
        self.gathered.extend_from_slice(window);
        out.main[0].push(&series.name, sample.time, sample.quality, series.filled, commissioning, sample.period);
        match (shape, &series.bands) {
            (Some(shape), Some(bands)) => {
                self.gathered_shapes.extend(bands.scale(shape));
                out.main[0].push_optional();
            }
            // Bursts began after commissioning: re-commissioning the device lets them count.
            (Some(_), None) => out.count("spectrum_unscaled", 1),
            (None, _) => {}
        }
        if self.gathered.len() >= self.windows_max {
            self.infer(out);
        }
    }

    /// Computes the vectors of the rows that wait for them.
    fn infer(&mut self, out: &mut Outbox<EmbeddingsBuilder>) {
        let batch = &mut out.main[0];
        let mut take = |head: usize, vectors: &[f32]| batch.extend_head(head, vectors);
        let done = self
            .model
            .infer(HeadInput::Window, &self.gathered, &mut take)
            .and_then(|()| self.model.infer(HeadInput::Spectrum, &self.gathered_shapes, take));
        self.gathered.clear();
        self.gathered_shapes.clear();
        if let Err(error) = done {
            // The same plans ran at start, so only memory can be wanting: the loop tries again, then rejects.
            panic!("the bundle's graph failed: {error:#}");
        }
    }

    /// Does what a control asks of embed. Samples that are still held go out before it: each is one row, whatever comes.
    fn obey(&mut self, kind: &ControlKind, out: &mut Outbox<EmbeddingsBuilder>) {
        let (device, forget) = match kind {
            ControlKind::DeviceReset { device } => (device, true),
            ControlKind::Recommission { device } => (device, false),
            ControlKind::Label { .. } | ControlKind::Maintenance { .. } | ControlKind::RegionLabel { .. } => return,
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
