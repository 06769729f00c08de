//! The coreset of a head of several dimensions: int8 rows under one scale, scanned exactly.

use crate::{
    codec::{CodecError, Get, Put},
    distance::Tiles,
    growth::make_room,
};

/// Most rows of one coreset, whatever its budget: what a scan may cost.
pub const ROWS_MAX: usize = 4096;
/// How many values a step of an int8 has at most on either side.
const STEPS: f32 = 127.0;

/// Vectors of which no two are closer than epsilon.
///
/// A vector within epsilon of a kept one only refreshes it, so memory follows variety and not time. When there is no
/// room, epsilon grows and the kept are thinned, the most recently refreshed first: the doubling algorithm of Charikar et al.
/// (1997) for streaming k-centre.
///
/// The scale is a power of two that grows to fit whatever is admitted; a query is never clipped.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorCoreset {
    dimensions: usize,
    rows_max: usize,
    /// Value of one step.
    scale: f32,
    epsilon: f32,
    rows: Tiles,
    /// Per row the epoch in which it was last near something.
    seen: Vec<u16>,
    dirty: bool,
}

impl VectorCoreset {
    /// An empty one of vectors of `dimensions` that takes at most `bytes` in a record (but holds 4 rows in any case).
    pub fn new(dimensions: usize, bytes: usize) -> Self {
        let rows_max = (bytes.saturating_sub(12) / (dimensions + 2)).clamp(4, ROWS_MAX);
        Self {
            dimensions,
            rows_max,
            scale: 1.0 / 64.0,
            epsilon: 0.0,
            rows: Tiles::new(dimensions),
            seen: Vec::new(),
            dirty: true,
        }
    }

    /// How many vectors are kept.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Closer vectors than this count as one.
    pub fn epsilon(&self) -> f32 {
        self.epsilon
    }

    /// Length of its vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The kept vector nearest to `vector` and the Euclidean distance to it.
    pub fn nearest(&self, vector: &[f32]) -> Option<(usize, f32)> {
        let scaled = vector.iter().map(|x| x / self.scale);
        let (index, squared) = as_query(self.dimensions, scaled, |query| self.rows.nearest(query))?;
        Some((index, squared.sqrt() * self.scale))
    }

    /// A kept vector's component.
    pub fn component(&self, index: usize, dimension: usize) -> f32 {
        f32::from(self.rows.get(index, dimension)) * self.scale
    }

    /// The kept vector that covers this one already, if one does.
    pub fn covering(&self, vector: &[f32]) -> Option<usize> {
        let (index, distance) = self.nearest(vector)?;
        (distance <= self.epsilon.max(self.resolution())).then_some(index)
    }

    /// Takes in a vector of finite components in epoch `epoch`. Returns whether it is kept: not so if it refreshes one.
    pub fn admit(&mut self, vector: &[f32], epoch: u16) -> bool {
        if let Some(index) = self.covering(vector) {
            if self.seen[index] != epoch {
                self.seen[index] = epoch;
                self.dirty = true;
            }
            return false;
        }
        if self.len() >= self.rows_max {
            self.thin();
        }
        self.fit(vector);
        let scale = self.scale;
        self.rows.push(vector.iter().map(|x| quantise(*x, scale)));
        make_room(&mut self.seen, 1);
        self.seen.push(epoch);
        self.dirty = true;
        true
    }

    /// How far a vector can be from its own int8 row.
    fn resolution(&self) -> f32 {
        0.5 * self.scale * (self.dimensions as f32).sqrt()
    }

    /// Doubles the scale until `vector` fits.
    fn fit(&mut self, vector: &[f32]) {
        let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        while largest > STEPS * self.scale && self.scale < 1e30 {
            self.scale *= 2.0;
            self.rows.map(|x| quantise(f32::from(x), 2.0));
        }
    }

    fn thin(&mut self) {
        let enough = self.rows_max - (self.rows_max / 8).max(1);
        if self.epsilon == 0.0 {
            self.epsilon = self.resolution().max(self.spacing() / 4.0);
        }
        while self.len() > enough {
            self.epsilon *= 1.5;
            self.thin_to_epsilon();
        }
    }

    /// Mean distance from a kept vector to the nearest before it.
    fn spacing(&self) -> f32 {
        let mut sum = 0.0;
        for index in 1..self.len() {
            let before = self.ask_row(index, |query| self.rows.nearest_of(query, index));
            sum += before.map_or(0.0, |(_, squared)| squared.sqrt() * self.scale);
        }
        sum / self.len().max(1) as f32
    }

    /// Asks about a kept row.
    fn ask_row<R>(&self, index: usize, ask: impl FnOnce(&[f32]) -> R) -> R {
        as_query(self.dimensions, self.rows.row(index).map(f32::from), ask)
    }

    fn thin_to_epsilon(&mut self) {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|index| (std::cmp::Reverse(self.seen[*index]), std::cmp::Reverse(*index)));
        let (mut taken, mut kept) = (Tiles::new(self.dimensions), Vec::new());
        for index in order {
            let near = self.ask_row(index, |query| taken.nearest(query));
            if near.is_none_or(|(_, squared)| squared.sqrt() * self.scale > self.epsilon) {
                taken.push(self.rows.row(index));
                kept.push(index);
            }
        }
        kept.sort_unstable();
        let mut rows = Tiles::new(self.dimensions);
        kept.iter().for_each(|index| rows.push(self.rows.row(*index)));
        self.rows = rows;
        self.seen = kept.iter().map(|index| self.seen[*index]).collect();
    }

    /// Counts as changed.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// Whether it changed since it was last asked; a new one has.
    pub fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_f32(self.scale);
        record.put_f32(self.epsilon);
        record.put_count(self.len());
        record.put_u16s(self.seen.iter().copied());
        self.rows.save(record);
    }

    /// Reads what [`Self::save`] wrote into an empty coreset of the same shape.
    ///
    /// # Errors
    /// If the record is not one of this shape.
    pub fn load(&mut self, record: &mut Get<'_>) -> Result<(), CodecError> {
        (self.scale, self.epsilon) = (record.f32()?, record.f32()?);
        if !(self.scale.is_normal() && self.scale > 0.0 && self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err(record.error("a scale or an epsilon is none"));
        }
        let count = record.count(self.rows_max)?;
        self.seen = (0..count).map(|_| record.u16()).collect::<Result<_, _>>()?;
        self.rows = Tiles::new(self.dimensions);
        for _ in 0..count {
            self.rows.push(record.bytes(self.dimensions)?.iter().map(|x| x.cast_signed()));
        }
        self.dirty = false;
        Ok(())
    }
}

/// Up to so many dimensions a query lies on the stack.
const STACK_DIMENSIONS: usize = 64;

/// Asks with `components` as a slice.
fn as_query<R>(dimensions: usize, components: impl Iterator<Item = f32>, ask: impl FnOnce(&[f32]) -> R) -> R {
    if dimensions > STACK_DIMENSIONS {
        return ask(&components.collect::<Vec<f32>>());
    }
    let mut query = [0.0; STACK_DIMENSIONS];
    query.iter_mut().zip(components).for_each(|(to, from)| *to = from);
    ask(&query[..dimensions])
}

fn quantise(value: f32, scale: f32) -> i8 {
    // A cast saturates, and takes NaN for 0.
    (value / scale).round_ties_even().clamp(-STEPS, STEPS) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(seed: u32, dimensions: usize, spread: f32) -> Vec<f32> {
        (0..dimensions as u32)
            .map(|i| ((seed.wrapping_mul(2654435761).wrapping_add(i * 40503) >> 7) % 1000) as f32 / 1000.0 * spread)
            .collect()
    }

    #[test]
    fn a_query_far_outside_is_not_clipped() {
        let mut coreset = VectorCoreset::new(5, 1000);
        coreset.admit(&[1.0; 5], 0);
        let (_, distance) = coreset.nearest(&[1001.0; 5]).unwrap();
        assert!((distance - 1000.0 * 5f32.sqrt()).abs() < 0.1, "{distance}");
        assert!(coreset.admit(&[1001.0; 5], 0), "the scale grows to hold it");
        assert!(coreset.nearest(&[1001.0; 5]).unwrap().1 < 20.0);
        assert_eq!(coreset.nearest(&[1.0; 5]).unwrap().0, 0);
    }

    #[test]
    fn keeps_to_its_budget_and_covers_what_it_saw() {
        let mut coreset = VectorCoreset::new(16, 768);
        for seed in 0..3000 {
            coreset.admit(&vector(seed, 16, 2.0), (seed / 100) as u16);
        }
        let mut record = Vec::new();
        coreset.save(&mut record);
        assert!(record.len() <= 768, "{}", record.len());
        let limit = 3.0 * coreset.epsilon() + 0.1;
        assert!((0..3000).all(|seed| coreset.nearest(&vector(seed, 16, 2.0)).unwrap().1 <= limit));
    }

    #[test]
    fn a_familiar_vector_changes_the_record_once_an_epoch() {
        let mut coreset = VectorCoreset::new(16, 768);
        coreset.admit(&vector(1, 16, 2.0), 0);
        coreset.take_dirty();
        assert!(!coreset.admit(&vector(1, 16, 2.0), 0) && !coreset.take_dirty());
        assert!(!coreset.admit(&vector(1, 16, 2.0), 1) && coreset.take_dirty());
    }

    #[test]
    fn a_record_whose_scale_could_not_grow_is_refused() {
        for (scale, epsilon) in [(0.0, 0.0), (-1.0, 0.0), (f32::NAN, 0.0), (1.0, -1.0), (1.0, f32::INFINITY)] {
            let mut record = Vec::new();
            record.put_f32(scale);
            record.put_f32(epsilon);
            record.put_count(0);
            assert!(VectorCoreset::new(5, 100).load(&mut Get::new(&record)).is_err(), "{scale} {epsilon}");
        }
    }

    #[test]
    fn survives_a_record_and_goes_on_alike() {
        let mut one = VectorCoreset::new(10, 200);
        (0..100).for_each(|seed| _ = one.admit(&vector(seed, 10, 3.0), 1));
        let mut record = Vec::new();
        one.save(&mut record);
        let mut two = VectorCoreset::new(10, 200);
        let mut get = Get::new(&record);
        two.load(&mut get).unwrap();
        get.end().unwrap();
        for seed in 100..300 {
            let v = vector(seed, 10, 3.0);
            assert_eq!(one.nearest(&v), two.nearest(&v));
            assert_eq!(one.admit(&v, 2), two.admit(&v, 2));
        }
    }
}
