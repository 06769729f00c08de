//! Rows of f16 of which some are measured: those that a walk through a graph comes to.
//!
//! A row lies in one piece, a line of the cache or two, and is measured as it was stored. Sums run in eight lanes, as
//! [`squared`](crate::distance::squared) has them, so that they have its bits.

use half::f16;

use crate::distance::{LANES, summed};

/// Bytes that memory gives at once.
const LINE: usize = 64;

/// Rows of a part, but for the last one.
pub const PART: usize = 1 << 16;

/// Rows of equal length as f16, the least byte first, in parts of [`PART`], wherever these lie.
#[derive(Clone, Debug)]
pub struct HalfRows<'a> {
    width: usize,
    len: usize,
    parts: Vec<&'a [u8]>,
}

/// Appends a row. What is too large for f16 becomes its largest, so that distances stay numbers.
pub fn put(vector: &[f32], bytes: &mut Vec<u8>) {
    let most = f16::MAX.to_f32();
    bytes.extend(vector.iter().flat_map(|x| f16::from_f32(x.clamp(-most, most)).to_le_bytes()));
}

impl<'a> HalfRows<'a> {
    /// Rows that were put; `None` if there are not as many bytes as `len` rows of `dimensions` take.
    pub fn read(dimensions: usize, len: usize, parts: Vec<&'a [u8]>) -> Option<Self> {
        let width = dimensions * 2;
        let expected = |part: usize| PART.min(len - part * PART) * width;
        let fits = parts.len() == len.div_ceil(PART);
        let fits = fits && parts.iter().enumerate().all(|(part, bytes)| bytes.len() == expected(part));
        fits.then_some(Self { width, len, parts })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A row as it lies.
    #[inline]
    pub fn bytes(&self, row: u32) -> Option<&'a [u8]> {
        let (part, at) = (row as usize / PART, row as usize % PART * self.width);
        self.parts.get(part)?.get(at..at + self.width)
    }

    /// A row as a vector, put into the place of what `vector` held; `false` if there is none.
    pub fn copy(&self, row: u32, vector: &mut Vec<f32>) -> bool {
        let Some(bytes) = self.bytes(row) else { return false };
        vector.clear();
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, just asked.
            unsafe { widened_avx2(bytes, vector) };
            return true;
        }
        widened_in_lanes(bytes, vector);
        true
    }

    /// The squared distances from `query` to some of them, put into the place of what `squared` held; `false` if one is none.
    pub fn squared(&self, query: &[f32], rows: &[u32], squared: &mut Vec<f32>) -> bool {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, just asked.
            return unsafe { self.squared_avx2(query, rows, squared) };
        }
        self.squared_in_lanes(query, rows, squared)
    }

    /// The same code for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn squared_avx2(&self, query: &[f32], rows: &[u32], squared: &mut Vec<f32>) -> bool {
        self.squared_in_lanes(query, rows, squared)
    }

    #[inline(always)]
    fn squared_in_lanes(&self, query: &[f32], rows: &[u32], squared: &mut Vec<f32>) -> bool {
        squared.clear();
        // All are asked of memory before the first is measured: a walk's rows lie anywhere, and one would wait for the other.
        let of = |row: &u32| {
            self.bytes(*row)
                .and_then(|bytes| Some(bytes.iter().step_by(LINE).fold(*bytes.last()?, |all, byte| all ^ byte)))
        };
        std::hint::black_box(rows.iter().filter_map(of).fold(0, |all, byte| all ^ byte));
        for row in rows {
            let Some(bytes) = self.bytes(*row) else { return false };
            squared.push(to_half(query, bytes));
        }
        true
    }
}

#[inline(always)]
fn to_half(query: &[f32], row: &[u8]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (tiles, rest) = query.as_chunks::<LANES>();
    let (halves, half_rest) = row.as_chunks::<{ 2 * LANES }>();
    for (tile, half) in tiles.iter().zip(halves) {
        for lane in 0..LANES {
            let difference = tile[lane] - widened([half[2 * lane], half[2 * lane + 1]]);
            lanes[lane] += difference * difference;
        }
    }
    for (lane, (x, half)) in lanes.iter_mut().zip(rest.iter().zip(half_rest.as_chunks().0)) {
        let difference = x - widened(*half);
        *lane += difference * difference;
    }
    summed(lanes)
}

/// The same code for wider registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn widened_avx2(row: &[u8], vector: &mut Vec<f32>) {
    widened_in_lanes(row, vector);
}

#[inline(always)]
fn widened_in_lanes(row: &[u8], vector: &mut Vec<f32>) {
    vector.extend(row.as_chunks().0.iter().map(|half| widened(*half)));
}

/// A finite f16 as f32, exactly: exponent and fraction moved to their places, the exponent's bias made up for by a product. In
/// steps that compilers find wide instructions for, which a call for each number would keep them from.
#[inline(always)]
fn widened(bytes: [u8; 2]) -> f32 {
    let half = u32::from(u16::from_le_bytes(bytes));
    let magnitude = f32::from_bits((half & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16)
}

/// Whether the squared distance from `vector` to one of `rows`, which lie one after the other, is at most `squared`.
pub fn any_within(vector: &[f32], rows: &[f32], squared: f32) -> bool {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, just asked.
        return unsafe { any_within_avx2(vector, rows, squared) };
    }
    any_within_in_lanes(vector, rows, squared)
}

/// The same code for wider registers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn any_within_avx2(vector: &[f32], rows: &[f32], squared: f32) -> bool {
    any_within_in_lanes(vector, rows, squared)
}

#[inline(always)]
fn any_within_in_lanes(vector: &[f32], rows: &[f32], squared: f32) -> bool {
    rows.chunks_exact(vector.len()).any(|row| crate::distance::squared(vector, row) <= squared)
}
