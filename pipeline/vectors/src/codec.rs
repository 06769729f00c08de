//! State records: little-endian fields one after the other, no names, no padding.

/// A state record that is shorter or other than what is read from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of {len}: {problem}")]
pub struct CodecError {
    /// Where reading stopped.
    pub at: usize,
    /// How long the record is.
    pub len: usize,
    /// What was expected there.
    pub problem: &'static str,
}

/// Reads what [`Put`] wrote.
#[derive(Clone, Debug)]
pub struct Get<'a> {
    bytes: &'a [u8],
    at: usize,
}

macro_rules! get {
    ($($name:ident $type:ty),*) => {$(
        #[doc = concat!("The next `", stringify!($type), "`.")]
        ///
        /// # Errors
        /// If the record ends before.
        pub fn $name(&mut self) -> Result<$type, CodecError> {
            let mut value = [0; size_of::<$type>()];
            value.copy_from_slice(self.bytes(size_of::<$type>())?);
            Ok(<$type>::from_le_bytes(value))
        }
    )*};
}

impl<'a> Get<'a> {
    /// From the record's first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    get!(u8 u8, u16 u16, u32 u32, u64 u64, i64 i64, f32 f32, f64 f64);

    /// The next `n` bytes.
    ///
    /// # Errors
    /// If the record ends before.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let rest = &self.bytes[self.at..];
        if rest.len() < n {
            return Err(self.error("the record ends in the middle of a field"));
        }
        self.at += n;
        Ok(&rest[..n])
    }

    /// A count written as `u32`, refused above `max`.
    ///
    /// # Errors
    /// If the record ends before, or the count is larger.
    pub fn count(&mut self, max: usize) -> Result<usize, CodecError> {
        match self.u32()? as usize {
            count if count <= max => Ok(count),
            _ => Err(self.error("a count is larger than what can have been written")),
        }
    }

    /// A text, as [`Put`] writes it.
    ///
    /// # Errors
    /// If the record ends before, or the bytes are not UTF-8.
    pub fn text(&mut self) -> Result<String, CodecError> {
        let count = self.count(1 << 16)?;
        let bytes = self.bytes(count)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| self.error("a text is not UTF-8"))
    }

    /// A number of seven bits a byte (LEB128).
    ///
    /// # Errors
    /// If the record ends before, or the number does not fit.
    pub fn varint(&mut self) -> Result<u32, CodecError> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| self.error("a number does not fit 32 bits"));
            }
        }
        Err(self.error("a number does not fit 32 bits"))
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// If something is.
    pub fn end(&self) -> Result<(), CodecError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.error("the record goes on past its last field")) }
    }

    /// An error at the present place.
    pub fn error(&self, problem: &'static str) -> CodecError {
        CodecError { at: self.at, len: self.bytes.len(), problem }
    }
}

/// Appends fields to a record.
pub trait Put {
    /// Raw bytes.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Two bytes.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Many of two bytes, at once.
    fn put_u16s(&mut self, values: impl ExactSizeIterator<Item = u16>);
    /// Four bytes.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Eight bytes.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// Eight bytes, signed.
    fn put_i64(&mut self, value: i64) {
        self.put(&value.to_le_bytes());
    }
    /// The bits of a float.
    fn put_f32(&mut self, value: f32) {
        self.put(&value.to_le_bytes());
    }
    /// The bits of a double.
    fn put_f64(&mut self, value: f64) {
        self.put(&value.to_le_bytes());
    }
    /// A count, as `u32`.
    fn put_count(&mut self, count: usize) {
        self.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
    }
    /// A number that is usually small: seven bits a byte (LEB128), one byte below 128.
    fn put_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }
    /// A count of bytes and UTF-8.
    fn put_text(&mut self, text: &str) {
        self.put_count(text.len());
        self.put(text.as_bytes());
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_u16s(&mut self, values: impl ExactSizeIterator<Item = u16>) {
        let start = self.len();
        self.resize(start + 2 * values.len(), 0);
        let (places, _) = self[start..].as_chunks_mut::<2>();
        places.iter_mut().zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got_and_nothing_else() {
        let mut record = Vec::new();
        record.put_u8(1);
        record.put_f64(-0.0);
        record.put_text("é");
        [0, 127, 128, u32::MAX].iter().for_each(|number| record.put_varint(*number));
        record.put_i64(i64::MIN);
        let mut get = Get::new(&record);
        assert_eq!(get.u8(), Ok(1));
        assert_eq!(get.f64().unwrap().to_bits(), (-0.0f64).to_bits());
        assert_eq!(get.text().unwrap(), "é");
        assert_eq!([(); 4].map(|()| get.varint().unwrap()), [0, 127, 128, u32::MAX]);
        assert!(get.clone().end().is_err());
        assert_eq!((get.i64(), get.end()), (Ok(i64::MIN), Ok(())));
        assert_eq!(get.u16().unwrap_err().at, record.len());
        assert!(Get::new(&[255; 8]).text().is_err());
        assert!(Get::new(&[255; 8]).varint().is_err() && Get::new(&[255, 255, 255, 255, 16]).varint().is_err());
    }
}
