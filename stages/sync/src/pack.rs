//! Entries of a batch share its tables of series and bundles.

use std::collections::HashMap;

use bytes::Bytes;
use eddy_schemas::sync::wire::{Entries, Entry, entry::What};

/// One table for all: a value's number, from 1, in the order in which values come.
struct Table<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn new() -> Self {
        Self { values: Vec::new(), numbers: HashMap::new() }
    }

    /// What the `number`th of `own` is here. 0, which means none, and what points nowhere stay none.
    fn number(&mut self, own: &[T], number: u32) -> u32 {
        let Some(value) = number.checked_sub(1).and_then(|index| own.get(index as usize)) else { return 0 };
        *self.numbers.entry(value.clone()).or_insert_with(|| {
            self.values.push(value.clone());
            self.values.len() as u32
        })
    }
}

/// One message of many entries, each with tables of its own; their numbers become the entries' ids.
pub fn merge(parts: Vec<(u64, Entries)>) -> Entries {
    let (mut series, mut bundles) = (Table::<String>::new(), Table::<Bytes>::new());
    let mut entries = Vec::with_capacity(parts.len());
    for (id, part) in parts {
        for Entry { what, .. } in part.entries {
            let what = what.map(|what| match what {
                What::Delta(mut delta) => {
                    delta.series = series.number(&part.series, delta.series);
                    delta.bundle = bundles.number(&part.bundles, delta.bundle);
                    What::Delta(delta)
                }
                What::Codebook(mut book) => {
                    book.bundle = bundles.number(&part.bundles, book.bundle);
                    What::Codebook(book)
                }
                What::Readings(mut readings) => {
                    readings.series = series.number(&part.series, readings.series);
                    What::Readings(readings)
                }
                other => other,
            });
            entries.push(Entry { id, what });
        }
    }
    Entries { entries, series: series.values, bundles: bundles.values }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::sync::wire::{Codebook, Readings, VectorDelta};

    use super::*;

    fn part(what: What, series: &[&str], bundles: &[&'static [u8]]) -> Entries {
        Entries {
            entries: vec![Entry { id: 0, what: Some(what) }],
            series: series.iter().map(|name| (*name).to_owned()).collect(),
            bundles: bundles.iter().map(|digest| Bytes::from_static(digest)).collect(),
        }
    }

    #[test]
    fn entries_keep_their_series_and_bundles() {
        let delta = |series, bundle| What::Delta(VectorDelta { series, bundle, ..Default::default() });
        let parts = vec![
            (7, part(delta(2, 1), &["x", "d/t"], &[b"one"])),
            (8, part(What::Alert(Bytes::from_static(b"{}")), &[], &[])),
            (9, part(delta(1, 2), &["d/u"], &[b"zero", b"two"])),
            (10, part(delta(1, 1), &["d/t"], &[b"one"])),
            (11, part(What::Readings(Readings { series: 1, ..Default::default() }), &["d/u"], &[])),
            (12, part(What::Codebook(Codebook { bundle: 1, ..Default::default() }), &[], &[b"two"])),
            (13, part(delta(3, 0), &["d/t"], &[])),
        ];
        let merged = merge(parts);
        assert_eq!(merged.series, ["d/t", "d/u"]);
        assert_eq!(merged.bundles, [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
        let pointed = merged.entries.iter().map(|entry| match entry.what.as_ref().unwrap() {
            What::Delta(delta) => (entry.id, delta.series, delta.bundle),
            What::Readings(readings) => (entry.id, readings.series, 0),
            What::Codebook(book) => (entry.id, 0, book.bundle),
            _ => (entry.id, 0, 0),
        });
        let expected = [(7, 1, 1), (8, 0, 0), (9, 2, 2), (10, 1, 1), (11, 2, 0), (12, 0, 2), (13, 0, 0)];
        assert!(pointed.eq(expected));
    }
}
