//! Distances from a query to rows of int8, eight rows side by side, and between two vectors.
//!
//! Sums run in eight lanes in a fixed order, so they have the same bits in registers of any width; NEON is part of every
//! aarch64, on x86-64 AVX2 is asked for when it runs. AVX-512 would hold two tiles, for other sums.

use crate::growth::make_room;

/// Rows of a tile.
pub(crate) const LANES: usize = 8;

/// Rows of equal length in tiles of eight: of each tile first the first components of its rows, then the second ones, and so on.
/// So distances to eight rows are summed without any sum across a register, whatever the rows' length.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    dimensions: usize,
    len: usize,
    components: Vec<i8>,
}

impl Tiles {
    /// None yet, of rows of `dimensions` (at least 1).
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, len: 0, components: Vec::new() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn place(&self, row: usize, dimension: usize) -> usize {
        (row / LANES * self.dimensions + dimension) * LANES + row % LANES
    }

    /// A component of a row.
    pub fn get(&self, row: usize, dimension: usize) -> i8 {
        self.components[self.place(row, dimension)]
    }

    /// A row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = i8> + '_ {
        (0..self.dimensions).map(move |dimension| self.get(row, dimension))
    }

    /// Appends a row.
    pub fn push(&mut self, row: impl Iterator<Item = i8>) {
        if self.len.is_multiple_of(LANES) {
            let more = self.dimensions * LANES;
            make_room(&mut self.components, more);
            self.components.resize(self.components.len() + more, 0);
        }
        for (dimension, component) in row.enumerate() {
            let place = self.place(self.len, dimension);
            self.components[place] = component;
        }
        self.len += 1;
    }

    /// Appends the rows, one after the other, a byte for each component.
    pub fn save(&self, record: &mut Vec<u8>) {
        let (start, dimensions) = (record.len(), self.dimensions);
        record.resize(start + self.len * dimensions, 0);
        let tiles = self.components.chunks_exact(dimensions * LANES);
        for (tile, rows) in tiles.zip(record[start..].chunks_mut(dimensions * LANES)) {
            // The usual number, known to the compiler, takes a third of the instructions.
            if dimensions == 4 { save_tile(tile, rows, 4) } else { save_tile(tile, rows, dimensions) }
        }
    }

    /// Changes every component.
    pub fn map(&mut self, change: impl Fn(i8) -> i8) {
        self.components.iter_mut().for_each(|component| *component = change(*component));
    }

    /// The index of the row nearest to `query`, and the squared distance to it; of equally near rows the first one. The query
    /// stays f32, so it is never clipped.
    pub fn nearest(&self, query: &[f32]) -> Option<(usize, f32)> {
        self.nearest_of(query, self.len)
    }

    /// The same among the first `count` rows.
    pub fn nearest_of(&self, query: &[f32], count: usize) -> Option<(usize, f32)> {
        let components = &self.components[..count.div_ceil(LANES) * self.dimensions * LANES];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, just asked.
            return unsafe { nearest_avx2(query, components, count) };
        }
        nearest_in_lanes(query, components, count)
    }
}

/// A tile's rows one after the other; of the last tile there are fewer than lanes.
#[inline(always)]
fn save_tile(tile: &[i8], rows: &mut [u8], dimensions: usize) {
    let (columns, _) = tile.as_chunks::<LANES>();
    for (lane, row) in rows.chunks_exact_mut(dimensions).enumerate().take(LANES) {
        row.iter_mut().zip(columns).for_each(|(to, column)| *to = column[lane].cast_unsigned());
    }
}

/// The squared distance between two vectors of equal length.
#[inline]
pub fn squared(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a, b) = (a.chunks(LANES), b.chunks(LANES));
    for (a, b) in a.zip(b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            let difference = a - b;
            *lane += difference * difference;
        }
    }
    summed(lanes)
}

/// The sum of all lanes, in its one order.
#[inline]
pub(crate) fn summed([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// Bytes of a tile of [`ScaledTiles`] before its components: a scale and an error for each row.
const TILE_HEAD: usize = LANES * 8;

/// Rows of int8, each with a scale of its own: vectors of f32 in a quarter of their bytes, with a bound on what that loses. All in
/// one run of bytes, tile by tile, as it is written to disk.
#[derive(Clone, Debug)]
pub struct ScaledTiles {
    dimensions: usize,
    len: usize,
    bytes: Vec<u8>,
}

/// Such rows wherever they lie.
#[derive(Clone, Copy, Debug)]
pub struct ScaledRows<'a> {
    dimensions: usize,
    len: usize,
    bytes: &'a [u8],
}

impl ScaledTiles {
    /// None yet, of rows of `dimensions` (at least 1).
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, len: 0, bytes: Vec::new() }
    }

    /// Appends a row of finite components.
    pub fn push(&mut self, vector: &[f32]) {
        let tile = TILE_HEAD + self.dimensions * LANES;
        if self.len.is_multiple_of(LANES) {
            self.bytes.resize(self.bytes.len() + tile, 0);
        }
        let scale = vector.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
        let component = |x: &f32| if scale > 0.0 { (x / scale).round() as i8 } else { 0 };
        let lost: f64 = vector.iter().map(|x| f64::from(x - f32::from(component(x)) * scale).powi(2)).sum();
        // A little more than it is, for the rounding of the sums.
        let error = (lost.sqrt() * 1.001) as f32;
        let (from, lane) = (self.len / LANES * tile, self.len % LANES);
        self.bytes[from + lane * 4..][..4].copy_from_slice(&scale.to_le_bytes());
        self.bytes[from + LANES * 4 + lane * 4..][..4].copy_from_slice(&error.to_le_bytes());
        for (dimension, x) in vector.iter().enumerate() {
            self.bytes[from + TILE_HEAD + dimension * LANES + lane] = component(x) as u8;
        }
        self.len += 1;
    }

    /// As they are written to disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// To be searched.
    pub fn rows(&self) -> ScaledRows<'_> {
        ScaledRows { dimensions: self.dimensions, len: self.len, bytes: &self.bytes }
    }
}

impl<'a> ScaledRows<'a> {
    /// Rows that were written; `None` if there are not as many bytes as `len` rows take.
    pub fn read(dimensions: usize, len: usize, bytes: &'a [u8]) -> Option<Self> {
        let expected = len.div_ceil(LANES) * (TILE_HEAD + dimensions * LANES);
        (bytes.len() == expected).then_some(Self { dimensions, len, bytes })
    }

    /// Rows whose vectors may lie within a distance of `query`: number, least and greatest distance that the vector can have. That
    /// distance is infinite at first, and then what `each` returned last.
    pub fn within(&self, query: &[f32], mut each: impl FnMut(usize, f32, f32) -> f32) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, just asked.
            unsafe { self.within_avx2(query, &mut each) };
            return;
        }
        self.within_in_lanes(query, &mut each);
    }

    /// The same code for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn within_avx2(&self, query: &[f32], each: &mut impl FnMut(usize, f32, f32) -> f32) {
        self.within_in_lanes(query, each);
    }

    #[inline(always)]
    fn within_in_lanes(&self, query: &[f32], each: &mut impl FnMut(usize, f32, f32) -> f32) {
        let mut most = f32::INFINITY;
        for (tile, bytes) in self.bytes.chunks_exact(TILE_HEAD + self.dimensions * LANES).enumerate() {
            let (head, components) = bytes.split_at(TILE_HEAD);
            let (floats, _) = head.as_chunks();
            let scales: [f32; LANES] = std::array::from_fn(|lane| f32::from_le_bytes(floats[lane]));
            let errors: [f32; LANES] = std::array::from_fn(|lane| f32::from_le_bytes(floats[LANES + lane]));
            let squared = scaled_in_lanes(query, components, &scales);
            // Sums of floats are off by some parts in a million.
            let least: [f32; LANES] = std::array::from_fn(|lane| squared[lane].sqrt() * 0.9999 - errors[lane]);
            // Of most tiles no row is near enough, which is known of all eight at once.
            if !least.iter().fold(false, |is_near, least| is_near | (*least <= most)) {
                continue;
            }
            let rows = LANES.min(self.len - tile * LANES);
            for lane in 0..rows {
                if least[lane] <= most {
                    let greatest = squared[lane].sqrt() * 1.0001 + errors[lane];
                    most = each(tile * LANES + lane, least[lane].max(0.0), greatest);
                }
            }
        }
    }
}

#[inline(always)]
fn scaled_in_lanes(query: &[f32], components: &[u8], scales: &[f32; LANES]) -> [f32; LANES] {
    let mut squared = [0.0f32; LANES];
    for (q, lanes) in query.iter().zip(components.chunks_exact(LANES)) {
        for lane in 0..LANES {
            let difference = q - scales[lane] * f32::from(lanes[lane] as i8);
            squared[lane] += difference * difference;
        }
    }
    squared
}

/// The same code for wider registers. Without fused multiply-add, so its results are the same bits.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn nearest_avx2(query: &[f32], components: &[i8], count: usize) -> Option<(usize, f32)> {
    nearest_in_lanes(query, components, count)
}

#[inline(always)]
fn nearest_in_lanes(query: &[f32], components: &[i8], count: usize) -> Option<(usize, f32)> {
    // The usual number, known to the compiler, takes fewer instructions.
    match query.len() {
        4 => nearest_of_width(query, components, count, 4),
        width => nearest_of_width(query, components, count, width),
    }
}

#[inline(always)]
fn nearest_of_width(query: &[f32], components: &[i8], count: usize, width: usize) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (tile, components) in components.chunks_exact(width * LANES).enumerate() {
        let mut squared = [0.0f32; LANES];
        for (q, lanes) in query[..width].iter().zip(components.chunks_exact(LANES)) {
            for lane in 0..LANES {
                let difference = q - f32::from(lanes[lane]);
                squared[lane] += difference * difference;
            }
        }
        let from = tile * LANES;
        squared[LANES.min(count - from)..].fill(f32::INFINITY);
        let least = squared.iter().fold(f32::INFINITY, |least, x| least.min(*x));
        if best.is_none_or(|(_, least_before)| least < least_before) {
            // Of rows that are near to nothing (NaN) it is one that there is.
            let lane = squared.iter().position(|x| *x == least).unwrap_or(0).min(count - from - 1);
            best = Some((from + lane, least));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiles(rows: usize, dimensions: usize) -> Tiles {
        let mut tiles = Tiles::new(dimensions);
        for row in 0..rows {
            tiles.push((0..dimensions).map(|at| ((row * dimensions + at) * 97 % 255) as i8));
        }
        tiles
    }

    #[test]
    fn finds_the_nearest_and_the_same_bits_in_any_registers() {
        for (rows, dimensions) in [(50, 64), (1, 4), (8, 4), (101, 4), (33, 17), (39, 16)] {
            let tiles = tiles(rows, dimensions);
            for probe in 0..rows {
                let query: Vec<f32> = tiles.row(probe).map(|x| f32::from(x) + 0.25).collect();
                let (index, squared) = tiles.nearest(&query).unwrap();
                assert_eq!(squared, 0.0625 * dimensions as f32);
                assert!(tiles.row(index).eq(tiles.row(probe)));
                let odd: Vec<f32> = query.iter().map(|q| q * 1.0137).collect();
                let plain = nearest_in_lanes(&odd, &tiles.components, rows).unwrap();
                assert_eq!(tiles.nearest(&odd).map(|(i, d)| (i, d.to_bits())), Some((plain.0, plain.1.to_bits())));
                // Row by row, in the order in which a lane sums.
                let far = |row: usize| tiles.row(row).zip(&odd).map(|(x, q)| (q - f32::from(x)).powi(2)).sum::<f32>();
                let first = (0..rows).map(|row| (row, far(row))).reduce(|a, b| if b.1 < a.1 { b } else { a });
                assert_eq!(Some(plain), first);
            }
        }
    }

    #[test]
    fn what_fills_a_tile_up_is_no_row() {
        let mut tiles = Tiles::new(2);
        tiles.push([100, 100].into_iter());
        tiles.push([50, 50].into_iter());
        assert_eq!(tiles.nearest(&[0.0, 0.0]), Some((1, 5000.0)));
        assert_eq!(tiles.nearest_of(&[0.0, 0.0], 1), Some((0, 20000.0)));
        assert_eq!(tiles.nearest(&[f32::INFINITY, 0.0]).map(|(row, _)| row), Some(0), "infinitely far from all");
    }

    #[test]
    fn of_equally_near_rows_the_first_is_told_wherever_they_lie() {
        for dimensions in [3, 4, 16] {
            for (first, other) in [(0, 1), (3, 9), (5, 8), (7, 16), (12, 17), (17, 18)] {
                let mut tiles = Tiles::new(dimensions);
                let value = |row: usize| if row == first || row == other { 1 } else { 50 + row as i8 };
                (0..19).for_each(|row| tiles.push(std::iter::repeat_n(value(row), dimensions)));
                let query = vec![2.0; dimensions];
                assert_eq!(tiles.nearest(&query), Some((first, dimensions as f32)), "{first} and {other}");
                assert_eq!(tiles.nearest_of(&query, other), Some((first, dimensions as f32)));
                assert_eq!(tiles.nearest_of(&query, 0), None);
            }
        }
        let mut tiles = Tiles::new(4);
        (0..9).for_each(|row| tiles.push(std::iter::repeat_n(row, 4)));
        assert_eq!(tiles.nearest(&[f32::NAN; 4]).map(|(row, _)| row), Some(0), "no number is near to none");
        assert!(tiles.nearest_of(&[f32::NAN; 4], 3).is_some_and(|(row, _)| row < 3), "nor to what fills a tile up");
    }

    #[test]
    fn bounds_hold_and_are_the_same_bits_in_any_registers() {
        let vector = |row: usize| -> Vec<f32> {
            (0..19).map(|at| ((row * 19 + at) * 7919 % 1013) as f32 / 100.0 - 5.0).collect()
        };
        let mut tiles = ScaledTiles::new(19);
        (0..21).for_each(|row| tiles.push(&vector(row)));
        tiles.push(&[0.0; 19]);
        let query = vector(100);
        let mut seen = 0;
        let read = ScaledRows::read(19, 22, tiles.bytes()).unwrap();
        assert!(ScaledRows::read(19, 25, tiles.bytes()).is_none());
        read.within(&query, |row, least, greatest| {
            let exact = squared(&query, &if row < 21 { vector(row) } else { vec![0.0; 19] }).sqrt();
            assert!((least..=greatest).contains(&exact), "{row}: {exact} in {least} to {greatest}");
            assert!(greatest - least < 0.02 * exact + 0.2);
            seen += 1;
            f32::INFINITY
        });
        assert_eq!(seen, 22);
        let told = |in_lanes: bool| {
            let (mut told, mut nearest) = (Vec::new(), f32::INFINITY);
            let mut each = |row, least: f32, greatest: f32| {
                told.push((row, least.to_bits(), greatest.to_bits()));
                nearest = nearest.min(greatest);
                nearest
            };
            if in_lanes {
                read.within_in_lanes(&query, &mut each)
            } else {
                read.within(&query, &mut each)
            };
            told
        };
        let nearer = told(false);
        assert_eq!(nearer, told(true));
        assert!(nearer.len() < 22, "those that lie farther than another are left out: {}", nearer.len());
        assert_eq!(squared(&[1.0; 9], &[3.0; 9]), 36.0);
    }

    #[test]
    fn nothing_is_near_where_there_is_nothing() {
        assert_eq!(Tiles::new(8).nearest(&[0.0; 8]), None);
    }
}
