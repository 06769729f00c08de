//! Positions: how far into its inputs a stage has come.
//!
//! The header [`HEADER`] of every output names the position that the output reaches; the last message on an output
//! subject is therefore the stage's checkpoint (design: "the stage contract").

use std::{collections::BTreeMap, fmt, str::FromStr};

/// The header that carries a [`Position`].
pub const HEADER: &str = "Eddy-Reaches";

/// A place in one stream: everything before message `sequence`, and the first `row` rows of it, is covered.
///
/// `Ord` compares places of one incarnation; places of two incarnations have no order worth relying on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the stream was created (nanoseconds since the Unix epoch): a recreated stream starts at 1 again.
    pub incarnation: i64,
    /// The message; 0 where nothing is covered.
    pub sequence: u64,
    /// How many rows of message `sequence` are covered; [`Place::WHOLE`] for all.
    pub row: u64,
}

impl Place {
    /// `row` of a place that covers a message to its end.
    pub const WHOLE: u64 = u64::MAX;

    /// Covers message `sequence` and all before it.
    pub fn whole(incarnation: i64, sequence: u64) -> Self {
        Self { incarnation, sequence, row: Self::WHOLE }
    }

    /// The first message that is not covered to its end: where a consumer goes on. (No stream has a message `u64::MAX`.)
    pub fn next_sequence(&self) -> u64 {
        if self.row == Self::WHOLE { self.sequence.saturating_add(1) } else { self.sequence.max(1) }
    }

    /// Whether row `row` of message `sequence` is covered.
    pub fn covers(&self, sequence: u64, row: u64) -> bool {
        sequence < self.sequence || (sequence == self.sequence && row < self.row)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.incarnation, self.sequence)?;
        if self.row == Self::WHOLE { Ok(()) } else { write!(f, ".{}", self.row) }
    }
}

impl FromStr for Place {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let wrong = || PositionError(text.to_owned());
        let (incarnation, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (sequence, row) = match rest.split_once('.') {
            Some((sequence, row)) => (sequence, row.parse().map_err(|_| wrong())?),
            None => (rest, Self::WHOLE),
        };
        Ok(Self {
            incarnation: incarnation.parse().map_err(|_| wrong())?,
            sequence: sequence.parse().map_err(|_| wrong())?,
            row,
        })
    }
}

/// How far a part of a stage's state has come in the stage's one input: it has seen the first `rows` rows of message `sequence`, and what
/// came before that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The message; 0 where nothing was seen.
    pub sequence: u64,
    /// How many of its rows.
    pub rows: u64,
}

impl Seen {
    /// Up to and with row `row` of message `sequence`.
    pub fn row(sequence: u64, row: usize) -> Self {
        Self { sequence, rows: row as u64 + 1 }
    }

    /// Whether row `row` of message `sequence` was seen.
    pub fn covers(&self, sequence: u64, row: usize) -> bool {
        Self::row(sequence, row) <= *self
    }
}

impl From<&Place> for Seen {
    fn from(place: &Place) -> Self {
        Self { sequence: place.sequence, rows: place.row }
    }
}

/// A position is not written as [`Position`] writes it.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a position like READINGS@1700000000000000000:42 or READINGS@1700000000000000000:42.7")]
pub struct PositionError(String);

/// How far a stage has come in each of its inputs: `STREAM@incarnation:sequence[.row]`, joined by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position(pub BTreeMap<String, Place>);

impl Position {
    /// The place in `stream`, if it has one.
    pub fn place(&self, stream: &str) -> Option<&Place> {
        self.0.get(stream)
    }

    /// Moves the place in `stream`.
    pub fn set(&mut self, stream: &str, place: Place) {
        self.0.insert(stream.to_owned(), place);
    }

    /// Whether row `row` of message `sequence` of `stream` is covered.
    pub fn covers(&self, stream: &str, sequence: u64, row: u64) -> bool {
        self.place(stream).is_some_and(|place| place.covers(sequence, row))
    }

    /// Whether this position is past `other` in any stream.
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        self.0.iter().any(|(stream, place)| {
            place.sequence > 0
                && other.place(stream).is_none_or(|there| {
                    place.next_sequence() > there.next_sequence()
                        || (place.sequence, place.row) > (there.sequence, there.row)
                })
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (stream, place)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{stream}@{place}")?;
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let mut places = BTreeMap::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (stream, place) = part.split_once('@').ok_or_else(|| PositionError(text.to_owned()))?;
            places.insert(stream.to_owned(), place.parse()?);
        }
        Ok(Self(places))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        let mut position = Position::default();
        position.set("INGEST", Place { incarnation: 5, sequence: 7, row: 3 });
        position.set("CONTROL", Place::whole(6, 1));
        assert_eq!(position.to_string(), "CONTROL@6:1,INGEST@5:7.3");
        assert_eq!(position.to_string().parse::<Position>().unwrap(), position);
        assert_eq!("".parse::<Position>().unwrap(), Position::default());
        for wrong in ["INGEST", "INGEST@5", "INGEST@5:x", "INGEST@5:7.y"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_covers_its_rows_and_asks_for_its_message_again() {
        let place = Place { incarnation: 1, sequence: 7, row: 3 };
        assert!(place.covers(6, 99) && place.covers(7, 2) && !place.covers(7, 3) && !place.covers(8, 0));
        assert_eq!((place.next_sequence(), Place::whole(1, 7).next_sequence()), (7, 8));
    }

    #[test]
    fn a_part_has_seen_what_lies_before_its_place() {
        let seen = Seen::row(7, 2);
        assert!(seen.covers(7, 2) && seen.covers(6, 99) && !seen.covers(7, 3) && !seen.covers(8, 0));
        assert!(Seen::from(&Place::whole(1, 7)).covers(7, 99) && !Seen::default().covers(1, 0));
    }

    #[test]
    fn ahead_means_in_any_stream() {
        let at = |sequence, row| Position([("S".to_owned(), Place { incarnation: 1, sequence, row })].into());
        assert!(at(7, 3).is_ahead_of(&at(7, 2)) && !at(7, 3).is_ahead_of(&at(7, 3)));
        assert!(at(8, 0).is_ahead_of(&at(7, 3)) && !at(7, 3).is_ahead_of(&at(7, Place::WHOLE)));
        assert!(at(1, 0).is_ahead_of(&Position::default()));
    }
}
