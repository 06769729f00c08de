//! The vectors of a recorded stream's windows, read off what embed makes: every window's, not only those that detect keeps.
//!
//! Vectors longer than the head's are of several windows: the head's own, with that of the window before it (as many samples
//! earlier as the head looks at), and so on, the newest first.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use eddy_embed::Embed;
use eddy_preprocess::Preprocess;
use eddy_runtime::stage::Stage as _;
use eddy_schemas::{Embeddings, ReadingsBuilder, SeriesName};

use crate::{
    chain::{MESSAGE_ROWS, problems, scope, step},
    inputs::Stream,
    pipeline::Pipeline,
};

/// Which vectors are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the head.
    pub head: String,
    /// Components, a multiple of the head's.
    pub dimensions: usize,
}

/// How such a vector is put together.
struct Parts {
    head: String,
    /// Components of a window's.
    dimensions: usize,
    /// Windows of a vector, and samples between two of them.
    windows: usize,
    step: usize,
    /// Fewest real samples of a window.
    filled_min: usize,
}

impl Pipeline {
    /// The digest of the bundle.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn parts(&self, wanted: &Wanted) -> Result<Parts> {
        let head = self.manifest.heads.iter().find(|head| head.name == wanted.head);
        let head = head.with_context(|| format!("the bundle has no head {:?}", wanted.head))?;
        let windows = wanted.dimensions / head.dimensions;
        ensure!(
            windows > 0 && wanted.dimensions.is_multiple_of(head.dimensions),
            "vectors of {} dimensions: a multiple of the {} of the bundle's head {:?} is taken",
            wanted.dimensions,
            head.dimensions,
            head.name
        );
        Ok(Parts {
            head: head.name.clone(),
            dimensions: head.dimensions,
            windows,
            step: head.window,
            filled_min: head.min_rows,
        })
    }

    /// Whether there can be such vectors.
    ///
    /// # Errors
    /// If the bundle has no such head, or one of other dimensions.
    pub fn check_wanted(&self, wanted: &Wanted) -> Result<()> {
        self.parts(wanted).map(drop)
    }

    /// Tells the vector of each window of a stream, in the order of its rows, through preprocess and embed.
    ///
    /// # Errors
    /// If a stage refuses the stream, or there is no such head.
    pub fn embedded(&self, stream: &Stream, wanted: &Wanted, mut each: impl FnMut(&[f32])) -> Result<()> {
        let parts = self.parts(wanted)?;
        let mut preprocess = Preprocess::new(self.preprocess.clone(), &scope()).map_err(problems)?;
        let mut embed = self.embed.clone();
        embed.commissioning_rows = self.commissioning_rows(stream.granted_rows);
        let mut embed = Embed::new(embed, &scope()).map_err(problems)?;
        let names: Vec<String> = stream.channels.iter().map(|channel| SeriesName::encode("bench", channel)).collect();
        let mut readings = ReadingsBuilder::default();
        let mut past: HashMap<String, Past> = HashMap::new();
        for (row, time) in stream.times.iter().enumerate() {
            for (name, value) in names.iter().zip(stream.row(row)).filter(|(_, value)| !value.is_nan()) {
                readings.push(name, *time, *value, 0, *time);
            }
            if readings.len() >= MESSAGE_ROWS || row + 1 == stream.times.len() {
                for samples in step(&mut preprocess, readings.encode())?.main {
                    for embeddings in step(&mut embed, samples)?.main {
                        parts.read(&Embeddings::decode(&embeddings)?, &mut past, &mut each);
                    }
                }
            }
        }
        Ok(())
    }
}

/// The last vectors of a series, in a ring.
#[derive(Default)]
struct Past {
    vectors: Vec<f32>,
    seen: usize,
}

impl Parts {
    fn read(&self, input: &Embeddings, past: &mut HashMap<String, Past>, each: &mut impl FnMut(&[f32])) {
        let Some(column) = input.heads.iter().find(|column| column.head.name == self.head) else { return };
        let (mut one, mut joined) = (vec![0.0; self.dimensions], vec![0.0; self.windows * self.dimensions]);
        for row in 0..input.rows.len() {
            let is_window = input.rows.control(row).is_none()
                && input.commissioning[row] == 0
                && usize::from(input.filled[row]) >= self.filled_min;
            if !is_window || !column.copy_to(row, &mut one) || !one.iter().all(|x| x.is_finite()) {
                continue;
            }
            let name = input.rows.name(row);
            if !past.contains_key(name) {
                past.insert(name.to_owned(), Past::default());
            }
            if let Some(past) = past.get_mut(name)
                && self.join(past, &one, &mut joined)
            {
                each(&joined);
            }
        }
    }

    /// Whether so many windows came already.
    fn join(&self, past: &mut Past, one: &[f32], joined: &mut [f32]) -> bool {
        let kept = (self.windows - 1) * self.step + 1;
        past.vectors.resize(kept * self.dimensions, 0.0);
        let at = |seen: usize| seen % kept * self.dimensions;
        past.vectors[at(past.seen)..][..self.dimensions].copy_from_slice(one);
        past.seen += 1;
        if past.seen < kept {
            return false;
        }
        for (back, part) in joined.chunks_exact_mut(self.dimensions).enumerate() {
            part.copy_from_slice(&past.vectors[at(past.seen - 1 - back * self.step)..][..self.dimensions]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Settings;

    fn wanted(dimensions: usize) -> Wanted {
        Wanted { head: "learned".into(), dimensions }
    }

    #[test]
    fn every_window_past_commissioning_has_a_vector_and_longer_ones_are_of_windows_one_behind_another() {
        let pipeline = Pipeline::new(&Settings::default()).unwrap();
        let rows = 600;
        let stream = Stream {
            channels: vec!["a".into(), "b".into()],
            times: (0..rows).map(|row| row * 60_000_000_000).collect(),
            values: (0..2 * rows).map(|at| (at as f64 * 0.37).sin() + (at % 7) as f64 * 0.1).collect(),
            granted_rows: 100,
            ..Stream::default()
        };
        let told = |dimensions| {
            let mut vectors: Vec<Vec<f32>> = Vec::new();
            pipeline.embedded(&stream, &wanted(dimensions), |vector| vectors.push(vector.to_vec())).unwrap();
            vectors
        };
        let (short, long) = (told(16), told(32));
        assert!(short.len() > 800 && short.len() <= 1_200, "{}", short.len());
        assert_eq!(long.len(), short.len() - 2 * 64);
        assert!(long.iter().all(|vector| vector.len() == 32));
        // Channels take turns: a window and the one 64 rows before it lie 128 apart.
        assert_eq!(long[0], [short[128].as_slice(), short[0].as_slice()].concat());
        assert!(pipeline.check_wanted(&wanted(40)).is_err() && pipeline.check_wanted(&wanted(16)).is_ok());
        assert!(pipeline.check_wanted(&Wanted { head: "nose".into(), dimensions: 16 }).is_err());
    }
}
