//! A device made up, and its embeddings in embed's order.

use std::ops::Range;

use eddy_schemas::{Control, ControlKind, SeriesName};

use super::{COMMISSIONING_ROWS, HOP};

/// What happens at a device besides the ordinary.
#[derive(Clone)]
pub(super) enum Event {
    /// Added to channel `.1` in the rows of `.0`.
    Add(Range<i64>, usize, f32),
    /// Added to bands 8 to 11 of the spectra of channel `.1` in the rows of `.0`.
    Shape(Range<i64>, usize, f32),
    /// Said before row `.0`.
    Say(i64, ControlKind),
}

/// A device whose channels follow one slow wave and some noise, in rows of all its channels.
pub(super) struct Source {
    pub(super) name: &'static str,
    pub(super) channels: usize,
    pub(super) rows: i64,
    /// Whether its readings are bursts; every 50th row is none all the same, as filled grid points are.
    pub(super) bursts: bool,
    pub(super) events: Vec<Event>,
}

pub(super) enum Item {
    Row { series: String, time: i64, filled: u16, commissioning: bool, vectors: Vec<Vec<f32>> },
    Control(Control),
}

pub(super) fn noise(seed: i64) -> f32 {
    let hash = blake3::hash(&seed.to_le_bytes());
    (0..4).map(|i| f32::from(hash.as_bytes()[i]) / 255.0 - 0.5).sum::<f32>()
}

impl Source {
    pub(super) fn new(name: &'static str, channels: usize, rows: i64) -> Self {
        Self { name, channels, rows, bursts: false, events: Vec::new() }
    }

    pub(super) fn with(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    pub(super) fn of_bursts(mut self) -> Self {
        self.bursts = true;
        self
    }

    /// A scaled spectrum, as the bundle gives it: about as far from any other as from zero.
    fn spectrum(&self, channel: usize, row: i64) -> Vec<f32> {
        let band = |band: i64| {
            let added = self.events.iter().map(|event| match event {
                Event::Shape(rows, at, x) if *at == channel && rows.contains(&row) && (8..12).contains(&band) => *x,
                _ => 0.0,
            });
            0.3 * noise((row * 64 + band) * 16 + channel as i64) + added.sum::<f32>()
        };
        (0..32).map(band).collect()
    }

    fn value(&self, channel: usize, row: i64) -> f32 {
        let wave = (row as f32 * std::f32::consts::TAU / 96.0).sin();
        let ordinary = wave + 0.15 * noise(row * 16 + channel as i64);
        let added = self.events.iter().map(|event| match event {
            Event::Add(rows, at, x) if *at == channel && rows.contains(&row) => *x,
            _ => 0.0,
        });
        ordinary + added.sum::<f32>()
    }

    pub(super) fn row(&self, channel: usize, row: i64, since: i64) -> Item {
        let window: Vec<f32> = (row - 63..=row).map(|at| self.value(channel, at.max(since))).collect();
        let recent = &window[44..];
        let mean = recent.iter().sum::<f32>() / 20.0;
        let sd = (recent.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 20.0).sqrt();
        let learned = window.chunks(4).map(|part| part.iter().sum::<f32>() / 4.0 - mean).collect();
        let mut vectors = vec![vec![window[63]], window.clone(), vec![mean, sd], learned];
        if self.bursts && row % 50 != 49 {
            vectors.push(self.spectrum(channel, row));
        }
        Item::Row {
            series: SeriesName::encode(self.name, &format!("c{channel}")),
            time: row * HOP,
            filled: (row - since + 1).min(64) as u16,
            commissioning: row < since + COMMISSIONING_ROWS,
            vectors,
        }
    }

    /// In embed's order: while a channel is commissioned it is silent, then all of its rows come at once.
    pub(super) fn items(&self) -> Vec<Item> {
        let (mut items, mut since) = (Vec::new(), 0);
        for row in 0..self.rows {
            for event in &self.events {
                if let Event::Say(at, kind) = event
                    && *at == row
                {
                    let id = format!("{}-{row}", self.name);
                    items.push(Item::Control(Control {
                        id,
                        origin: "cli".into(),
                        time: row * HOP,
                        kind: kind.clone(),
                    }));
                    if matches!(kind, ControlKind::Recommission { .. } | ControlKind::DeviceReset { .. }) {
                        since = row;
                    }
                }
            }
            let last = since + COMMISSIONING_ROWS - 1;
            for channel in 0..self.channels {
                if row == last {
                    items.extend((since..=last).map(|row| self.row(channel, row, since)));
                } else if row > last {
                    items.push(self.row(channel, row, since));
                }
            }
        }
        items
    }
}
