//! Records on their way to the disk.

use std::collections::VecDeque;

/// Records that changed, one after the other in one allocation: a gateway's snapshot has some hundred thousand of them.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<Ends>,
}

/// Where a record's key ends, and its value, if it has one: it is gone otherwise.
#[derive(Clone, Copy, Debug)]
struct Ends {
    key: usize,
    value: Option<usize>,
}

impl Records {
    /// Adds one: its key, and its value or `None` if it is gone.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.bytes.extend_from_slice(key);
        let key = self.bytes.len();
        let value = value.map(|value| {
            self.bytes.extend_from_slice(value);
            self.bytes.len()
        });
        self.ends.push(Ends { key, value });
    }

    /// All of them, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut start = 0;
        self.ends.iter().map(move |ends| {
            let key = &self.bytes[start..ends.key];
            let value = ends.value.map(|end| &self.bytes[ends.key..end]);
            start = ends.value.unwrap_or(ends.key);
            (key, value)
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of their keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(K, Option<V>)> for Records {
    fn from_iter<I: IntoIterator<Item = (K, Option<V>)>>(records: I) -> Self {
        let mut all = Self::default();
        records.into_iter().for_each(|(key, value)| all.push(key.as_ref(), value.as_ref().map(AsRef::as_ref)));
        all
    }
}

/// Records in pieces of a size, so that room is given back as they are taken.
#[derive(Clone, Debug)]
pub struct Pieces {
    pieces: VecDeque<Records>,
    bytes: usize,
}

impl Default for Pieces {
    /// Of a megabyte.
    fn default() -> Self {
        Self::of(1 << 20)
    }
}

impl Pieces {
    /// A piece is full when it holds so many bytes.
    pub fn of(bytes: usize) -> Self {
        Self { pieces: VecDeque::new(), bytes }
    }

    /// Adds a record behind the others.
    pub fn push(&mut self, key: &[u8], value: Option<&[u8]>) {
        match self.pieces.back_mut().filter(|piece| piece.bytes() < self.bytes) {
            Some(piece) => piece.push(key, value),
            None => self.pieces.push_back([(key, value)].into_iter().collect()),
        }
    }

    /// Takes the first piece.
    pub fn pop(&mut self) -> Option<Records> {
        self.pieces.pop_front()
    }

    /// Takes the first piece if it is full.
    pub fn pop_full(&mut self) -> Option<Records> {
        self.pieces.pop_front_if(|piece| piece.bytes() >= self.bytes)
    }

    /// How many pieces there are.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_full_but_for_the_last() {
        let mut pieces = Pieces::of(10);
        for n in 0..7_u8 {
            pieces.push(&[n], Some(&[n; 4]));
        }
        assert_eq!(pieces.len(), 4);
        let full: Vec<usize> = std::iter::from_fn(|| pieces.pop_full()).map(|piece| piece.len()).collect();
        assert_eq!((full, pieces.pop_full().is_none()), (vec![2, 2, 2], true));
        assert_eq!((pieces.pop().map(|piece| piece.len()), pieces.is_empty()), (Some(1), true));
    }

    #[test]
    fn what_goes_in_comes_out() {
        let told: [(&[u8], Option<&[u8]>); 4] =
            [(b"a", Some(b"1")), (b"", None), (b"bc", Some(b"")), (b"d", Some(b"23"))];
        let records: Records = told.into_iter().collect();
        assert_eq!(records.iter().collect::<Vec<_>>(), told);
        assert_eq!((records.len(), records.bytes(), records.is_empty()), (4, 7, false));
        assert!(Records::default().is_empty() && Records::default().iter().next().is_none());
    }
}
