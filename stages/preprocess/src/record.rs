//! How state records are written: little-endian numbers, LEB128 for counts and distances.
//!
//! The record's layout is versioned as a whole by the stage's `state_version`; there is nothing optional in it.

/// Appends to a record.
pub fn put_varint(record: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        // The low seven bits, by the mask.
        record.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    record.push(number as u8);
}

/// Reads a record from its beginning; every read that does not fit says what was expected.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| format!("{count} bytes expected, {} left", self.0.len()))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    /// A `u16`.
    pub fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An `f32`.
    pub fn f32(&mut self) -> Result<f32, String> {
        self.array().map(f32::from_le_bytes)
    }

    /// An `i64`.
    pub fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_le_bytes)
    }

    /// A finite `f64`: no other is ever written.
    pub fn f64(&mut self) -> Result<f64, String> {
        let number = self.array().map(f64::from_le_bytes)?;
        if number.is_finite() { Ok(number) } else { Err(format!("{number} where a finite number is expected")) }
    }

    /// A number that [`put_varint`] wrote.
    pub fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number longer than ten bytes".into())
    }

    /// A number that [`put_varint`] wrote, of at most `max`.
    pub fn count(&mut self, what: &str, max: usize) -> Result<usize, String> {
        let count = self.varint()?;
        usize::try_from(count)
            .ok()
            .filter(|count| *count <= max)
            .ok_or_else(|| format!("{count} {what}, at most {max}"))
    }

    /// Nothing may be left.
    pub fn end(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("{} bytes too many", self.0.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_a_cut_record_is_told() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let mut record = Vec::new();
        for number in numbers {
            put_varint(&mut record, number);
        }
        let mut reader = Reader(&record);
        assert_eq!(numbers.map(|_| reader.varint().unwrap()), numbers);
        reader.end().unwrap();
        assert!(Reader(&record[..record.len() - 1]).bytes(record.len()).unwrap_err().contains("expected"));
        assert!(Reader(&[0xff; 11]).varint().unwrap_err().contains("longer"));
        assert!(Reader(&[9]).count("values", 5).unwrap_err().contains("at most 5"));
    }
}
