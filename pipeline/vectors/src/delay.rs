//! Rows that are too recent to be compared with: neighbours in time share samples, so they are near for no reason.

use crate::codec::{CodecError, Get, Put};

/// Most rows that wait: a head that looks far back waits with every n-th row only.
pub const ROWS_MAX: usize = 8;
/// Most bytes of a row's number in a record.
const VARINT_BYTES_MAX: usize = 5;
/// Up to this many dimensions a waiting vector is f32, above int8 under a scale of its own.
const EXACT_DIMENSIONS_MAX: usize = 3;

/// Rows that can wait: a row goes in before the oldest comes out.
const PLACES: usize = ROWS_MAX + 1;

/// Lets a vector through once `exclusion` rows of its series have passed since.
///
/// Of an exclusion longer than [`ROWS_MAX`] rows only every `stride`-th row is taken: windows that long overlap so much
/// that the ones between add little, and what waits fits its budget.
///
/// A gateway has hundreds of thousands of these: what waits lies in one allocation, as a ring.
#[derive(Clone, Debug)]
pub struct Delay {
    exclusion: u32,
    stride: u32,
    dimensions: u32,
    /// The oldest one's place, and how many wait.
    first: u8,
    len: u8,
    rows: [u32; PLACES],
    /// By place; empty until the first row comes.
    packed: Box<[u8]>,
}

impl PartialEq for Delay {
    /// Whether the same waits: not at which places.
    fn eq(&self, other: &Self) -> bool {
        (self.exclusion, self.stride, self.dimensions, self.len)
            == (other.exclusion, other.stride, other.dimensions, other.len)
            && (0..usize::from(self.len)).all(|n| self.waits(n) == other.waits(n))
    }
}

impl Delay {
    /// For vectors of `dimensions` that are comparable `exclusion` rows later.
    pub fn new(dimensions: usize, exclusion: usize) -> Self {
        let stride = exclusion.div_ceil(ROWS_MAX).max(1) as u32;
        let (exclusion, dimensions) = (exclusion as u32, dimensions as u32);
        Self { exclusion, stride, dimensions, first: 0, len: 0, rows: [0; PLACES], packed: Box::default() }
    }

    /// Length of its vectors.
    pub fn dimensions(&self) -> usize {
        self.dimensions as usize
    }

    /// Every how many rows one is taken.
    pub fn stride(&self) -> u32 {
        self.stride
    }

    /// Most bytes that it takes in a record.
    pub fn bytes_max(&self) -> usize {
        1 + PLACES * (VARINT_BYTES_MAX + self.bytes())
    }

    /// Bytes of a vector.
    fn bytes(&self) -> usize {
        packed_bytes(self.dimensions())
    }

    /// Whether the vector of the series' `row`-th row would be taken.
    pub fn takes(&self, row: u32) -> bool {
        row.is_multiple_of(self.stride)
    }

    /// The number and the packed vector of the one that has waited longest but for `n`.
    fn waits(&self, n: usize) -> (u32, &[u8]) {
        let place = (usize::from(self.first) + n) % PLACES;
        (self.rows[place], &self.packed[place * self.bytes()..][..self.bytes()])
    }

    /// Takes the vector of row `row`, if it is one of those. If nobody asked for the oldest ones meanwhile, the oldest is forgotten.
    pub fn push(&mut self, row: u32, vector: &[f32]) {
        if self.takes(row) {
            let to = self.place_for(row);
            pack_into(vector, to);
        }
    }

    /// Makes room behind the others.
    fn place_for(&mut self, row: u32) -> &mut [u8] {
        let bytes = self.bytes();
        if self.packed.is_empty() {
            self.packed = vec![0; PLACES * bytes].into_boxed_slice();
        }
        if usize::from(self.len) == PLACES {
            self.forget_first();
        }
        let place = (usize::from(self.first) + usize::from(self.len)) % PLACES;
        self.len += 1;
        self.rows[place] = row;
        &mut self.packed[place * bytes..][..bytes]
    }

    fn forget_first(&mut self) {
        self.first = ((usize::from(self.first) + 1) % PLACES) as u8;
        self.len -= 1;
    }

    /// Whether a vector has waited long enough at row `row`.
    pub fn is_due(&self, row: u32) -> bool {
        self.due(row).is_some()
    }

    /// The oldest vector, packed, if it has waited long enough at row `row`.
    fn due(&self, row: u32) -> Option<&[u8]> {
        if self.len == 0 {
            return None;
        }
        let (pushed, packed) = self.waits(0);
        (row.wrapping_sub(pushed) >= self.exclusion).then_some(packed)
    }

    /// The oldest vector that has waited long enough at row `row`, into `vector`; whether there was one.
    pub fn pop(&mut self, row: u32, vector: &mut [f32]) -> bool {
        let Some(packed) = self.due(row) else { return false };
        unpack(packed, vector);
        self.forget_first();
        true
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_u8(self.len);
        let mut before = 0;
        for n in 0..usize::from(self.len) {
            let (row, packed) = self.waits(n);
            record.put_varint(row.wrapping_sub(before));
            record.put(packed);
            before = row;
        }
    }

    /// Reads what [`Self::save`] wrote into an empty delay of the same shape.
    ///
    /// # Errors
    /// If the record ends before.
    pub fn load(&mut self, record: &mut Get<'_>) -> Result<(), CodecError> {
        let count = usize::from(record.u8()?);
        if count > PLACES {
            return Err(record.error("more rows wait than can"));
        }
        (self.first, self.len) = (0, 0);
        let mut row = 0u32;
        for _ in 0..count {
            row = row.wrapping_add(record.varint()?);
            let packed = record.bytes(self.bytes())?;
            self.place_for(row).copy_from_slice(packed);
        }
        Ok(())
    }
}

/// How many bytes [`pack`] appends for a vector of `dimensions`.
pub fn packed_bytes(dimensions: usize) -> usize {
    if dimensions <= EXACT_DIMENSIONS_MAX { 4 * dimensions } else { 4 + dimensions }
}

/// Appends a vector in few bytes: exact up to three dimensions, else int8 under a scale of its own (a power of two).
pub fn pack(vector: &[f32], packed: &mut Vec<u8>) {
    let before = packed.len();
    packed.resize(before + packed_bytes(vector.len()), 0);
    pack_into(vector, &mut packed[before..]);
}

/// The same, into exactly [`packed_bytes`].
fn pack_into(vector: &[f32], packed: &mut [u8]) {
    if vector.len() <= EXACT_DIMENSIONS_MAX {
        packed.chunks_exact_mut(4).zip(vector).for_each(|(to, x)| to.copy_from_slice(&x.to_le_bytes()));
        return;
    }
    let largest = vector.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
    let mut scale = 1.0f32 / 1024.0;
    while largest > 127.0 * scale && scale < 1e30 {
        scale *= 2.0;
    }
    let (head, components) = packed.split_at_mut(4);
    head.copy_from_slice(&scale.to_le_bytes());
    for (to, x) in components.iter_mut().zip(vector) {
        *to = ((x / scale).round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned();
    }
}

/// What [`pack`] appended, into `vector`.
pub fn unpack(packed: &[u8], vector: &mut [f32]) {
    let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    if vector.len() <= EXACT_DIMENSIONS_MAX {
        vector.iter_mut().zip(packed.chunks_exact(4)).for_each(|(x, bytes)| *x = float(bytes));
        return;
    }
    let scale = float(packed);
    vector.iter_mut().zip(&packed[4..]).for_each(|(x, byte)| *x = f32::from(byte.cast_signed()) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(delay: &Delay) -> Vec<(u32, &[u8])> {
        (0..usize::from(delay.len)).map(|n| delay.waits(n)).collect()
    }

    #[test]
    fn if_nobody_asks_the_oldest_is_forgotten() {
        let mut delay = Delay::new(2, 8);
        (0..20).for_each(|row| delay.push(row, &[row as f32; 2]));
        let rows: Vec<u32> = waiting(&delay).iter().map(|(row, _)| *row).collect();
        assert_eq!(rows, (11..20).collect::<Vec<_>>());
        let mut vector = [0.0; 2];
        assert!(delay.pop(19, &mut vector) && vector == [11.0; 2] && !delay.pop(19, &mut vector));
    }

    fn through(dimensions: usize, exclusion: usize) -> Vec<(u32, f32)> {
        let mut delay = Delay::new(dimensions, exclusion);
        let mut out = Vec::new();
        for row in 0..100 {
            let mut vector = vec![0.0; dimensions];
            loop {
                let is_due = delay.is_due(row);
                assert_eq!(delay.pop(row, &mut vector), is_due);
                if !is_due {
                    break;
                }
                out.push((row, vector[0]));
            }
            delay.push(row, &vec![row as f32; dimensions]);
            let mut record = Vec::new();
            delay.save(&mut record);
            assert!(record.len() <= delay.bytes_max());
            let mut loaded = Delay::new(dimensions, exclusion);
            loaded.load(&mut Get::new(&record)).unwrap();
            assert_eq!(waiting(&loaded), waiting(&delay));
            delay = loaded;
        }
        out
    }

    #[test]
    fn a_short_exclusion_delays_every_row_by_exactly_it() {
        let out = through(1, 8);
        assert_eq!(out.len(), 92);
        assert!(out.iter().all(|(row, value)| *row as f32 - value == 8.0));
    }

    #[test]
    fn a_long_one_delays_every_stride_th_row() {
        let out = through(16, 30);
        assert!(
            out.iter().all(|(row, value)| (30.0..34.5).contains(&(*row as f32 - value)) && value % 4.0 < 0.6),
            "{out:?}"
        );
        assert_eq!(out.len(), 18);
    }

    #[test]
    fn packing_is_exact_for_short_vectors_and_close_for_long_ones() {
        let check = |vector: &[f32], tolerance: f32| {
            let (mut packed, mut back) = (Vec::new(), vec![0.0; vector.len()]);
            pack(vector, &mut packed);
            assert_eq!(packed.len(), packed_bytes(vector.len()));
            unpack(&packed, &mut back);
            assert!(vector.iter().zip(&back).all(|(a, b)| (a - b).abs() <= tolerance), "{vector:?} {back:?}");
        };
        check(&[0.1, -3e9, 1.0], 0.0);
        check(&[0.0, 0.1, -3.0, 2.0, 1.5], 0.016);
    }
}
