//! The score of a series as it is told: one event is one peak, and between peaks stands how unusual the recent rows were.
//!
//! Whoever puts a threshold on scores wants an event told once; whoever looks back at a stretch of time wants to know all of
//! what was unusual in it. So a row that exceeds the standing peak of its series, or comes long after it, keeps its score if that is
//! above [`LEVEL_MAX`], and any other row tells the *level*: the heads' scores added up, smoothed over the last rows, and brought below
//! [`LEVEL_MAX`]. Many heads that are a little astonished for long count in the level, one that is much for a row in the peak.

use eddy_vectors::codec::{CodecError, Get, Put};

/// Above every level.
pub const LEVEL_MAX: f32 = 0.2;
/// The level that is told as half of [`LEVEL_MAX`].
const LEVEL_HALF: f32 = 1.0;

/// A sum counts as no more than that in the level, so that one row does not fill it for long.
const SUM_MAX: f32 = 100.0;

/// What a series keeps of its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// The standing peak, and how many rows ago it was.
    peak: f32,
    rows: u32,
    /// Exponential mean of the sums of the heads' scores.
    level: f32,
    /// What was told last.
    pub last: f32,
}

/// Over how many rows scores are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spans {
    /// Rows for which a peak stands unless it is exceeded; 0: every score is told as it is.
    pub peak_rows: u32,
    /// Rows of the exponential mean, at least 1.
    pub level_rows: f32,
}

impl Told {
    /// The next row's score as it is told. `score` is the largest of the heads' scores, `sum` all of them; neither is negative.
    pub fn next(&mut self, score: f32, sum: f32, spans: &Spans) -> f32 {
        self.last = self.tell(score, sum, spans);
        self.last
    }

    fn tell(&mut self, score: f32, sum: f32, spans: &Spans) -> f32 {
        self.level += (sum.min(SUM_MAX) - self.level) / spans.level_rows.max(1.0);
        self.rows = self.rows.saturating_add(1);
        if spans.peak_rows == 0 {
            return score;
        }
        if score > self.peak || self.rows > spans.peak_rows {
            (self.peak, self.rows) = (score, 0);
            if score > LEVEL_MAX {
                return score;
            }
        }
        LEVEL_MAX * self.level / (self.level + LEVEL_HALF)
    }

    /// Appends it to a record.
    pub fn save(&self, record: &mut Vec<u8>) {
        record.put_f32(self.peak);
        record.put_u32(self.rows);
        record.put_f32(self.level);
        record.put_f32(self.last);
    }

    /// Reads what [`Self::save`] wrote.
    ///
    /// # Errors
    /// If the record is not one.
    pub fn load(record: &mut Get<'_>) -> Result<Self, CodecError> {
        let told = Self { peak: record.f32()?, rows: record.u32()?, level: record.f32()?, last: record.f32()? };
        if [told.peak, told.level, told.last].iter().all(|x| x.is_finite() && *x >= 0.0) {
            Ok(told)
        } else {
            Err(record.error("a peak or a level of the scores is none"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: Spans = Spans { peak_rows: 3, level_rows: 1.0 };

    fn told(spans: &Spans, scores: &[f32]) -> Vec<f32> {
        let mut told = Told::default();
        scores
            .iter()
            .map(|score| {
                let mut record = Vec::new();
                told.save(&mut record);
                told = Told::load(&mut Get::new(&record)).unwrap();
                told.next(*score, *score, spans)
            })
            .collect()
    }

    #[test]
    fn a_peak_is_told_once_until_it_is_exceeded_or_old() {
        let level = |score: f32| LEVEL_MAX * score / (score + LEVEL_HALF);
        let scores = [0.1, 2.0, 1.5, 3.0, 1.0, 1.0, 1.0, 1.0, 0.1];
        let expected = [level(0.1), 2.0, level(1.5), 3.0, level(1.0), level(1.0), level(1.0), 1.0, level(0.1)];
        let found = told(&SPANS, &scores);
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{found:?}");
        assert_eq!(told(&Spans { peak_rows: 0, ..SPANS }, &scores), scores);
    }

    #[test]
    fn a_level_is_a_smoothed_one_and_never_a_peak() {
        let spans = Spans { peak_rows: 100, level_rows: 4.0 };
        let rising = told(&spans, &[1e30, 1e6, 1e6, 1e6, 0.0, 0.0]);
        assert!(rising[1..].iter().all(|x| *x < LEVEL_MAX && *x > 0.19), "{rising:?}");
        let falling = told(&spans, &[1.0, 0.0, 0.0, 0.0]);
        assert!(falling[1..].windows(2).all(|pair| pair[1] < pair[0]), "{falling:?}");
    }

    #[test]
    fn a_record_that_is_none_is_refused() {
        let mut record = Vec::new();
        Told { peak: f32::NAN, ..Told::default() }.save(&mut record);
        assert!(Told::load(&mut Get::new(&record)).is_err());
    }
}
