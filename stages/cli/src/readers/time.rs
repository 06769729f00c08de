//! Timestamps as files write them.

use eddy_schemas::Timestamp;

/// How a file counts time; found in its first row and kept, so that no later row can switch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339, or `YYYY-MM-DD HH:MM:SS[.f]` taken as UTC.
    Text,
    /// A number since the Unix epoch, in units of this many nanoseconds.
    Unix(i64),
    /// The row's number: no time at all.
    RowNumber,
}

/// Where row numbers become times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowClock {
    /// Time of row 0.
    pub start: Timestamp,
    /// Nanoseconds from row to row.
    pub period: i64,
}

/// Below this many a number counts rows, not seconds (1973).
const ROWS_BELOW: i64 = 100_000_000;

impl TimeFormat {
    /// The format of a file whose first time is `text`; `None` if it is no time.
    ///
    /// Numbers are told apart by magnitude: up to 1e8 rows, then seconds, milliseconds, microseconds, nanoseconds.
    pub fn detect(text: &str) -> Option<Self> {
        if let Some((whole, _)) = decimal(text) {
            return Some(Self::of_integer(whole));
        }
        parse_text(text).map(|_| Self::Text)
    }

    /// The format of a file whose first time is the integer `number`.
    pub fn of_integer(number: i64) -> Self {
        match number.unsigned_abs() {
            n if n < ROWS_BELOW as u64 => Self::RowNumber,
            n if n < 100_000_000_000 => Self::Unix(1_000_000_000),
            n if n < 100_000_000_000_000 => Self::Unix(1_000_000),
            n if n < 100_000_000_000_000_000 => Self::Unix(1_000),
            _ => Self::Unix(1),
        }
    }

    /// The time behind an integer; `None` if integers are none in this format, or outside 1677 to 2262.
    pub fn integer(self, number: i64, rows: RowClock) -> Option<Timestamp> {
        match self {
            Self::Text => None,
            Self::Unix(unit) => number.checked_mul(unit),
            Self::RowNumber => number.checked_mul(rows.period)?.checked_add(rows.start),
        }
    }

    /// Reads a time; `None` if it is none of this format, or outside 1677 to 2262.
    pub fn parse(self, text: &str, rows: RowClock) -> Option<Timestamp> {
        match self {
            Self::Text => parse_text(text),
            Self::Unix(unit) => {
                let (whole, nanos_of_unit) = decimal(text)?;
                let fraction = (i128::from(nanos_of_unit) * i128::from(unit)) / 1_000_000_000;
                (i128::from(whole) * i128::from(unit) + fraction).try_into().ok()
            }
            Self::RowNumber => self.integer(decimal(text)?.0, rows),
        }
    }
}

/// A decimal number as its whole part and its fraction in billionths, both with its sign.
fn decimal(text: &str) -> Option<(i64, i64)> {
    let text = text.trim();
    let (digits, sign) = text.strip_prefix('-').map_or((text, 1), |digits| (digits, -1));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let billionths = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse::<i64>().ok()?;
    Some((whole.parse::<i64>().ok()? * sign, billionths * sign))
}

fn parse_text(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let instant = match text.parse::<jiff::Timestamp>() {
        Ok(instant) => instant,
        Err(_) => text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp(),
    };
    instant.as_nanosecond().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: RowClock = RowClock { start: 1_000, period: 60 };

    #[test]
    fn every_way_to_write_the_same_instant() {
        let expected = 1_386_018_900_000_000_000;
        for text in [
            "2013-12-02T21:15:00Z",
            "2013-12-02T22:15:00+01:00",
            "2013-12-02 21:15:00",
            "2013-12-02 21:15:00.000",
            "2013-12-02T21:15:00",
            "1386018900",
            "1386018900.0",
            "1386018900000",
            "1386018900000000",
            "1386018900000000000",
        ] {
            let format = TimeFormat::detect(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(format.parse(text, ROWS), Some(expected), "{text} as {format:?}");
            if let Ok(number) = text.parse() {
                let format = TimeFormat::of_integer(number);
                assert_eq!(format.integer(number, ROWS), Some(expected), "{number} as {format:?}");
            }
        }
    }

    #[test]
    fn fractions_are_exact_and_rows_have_a_clock() {
        let format = TimeFormat::detect("1700000000.123456789").unwrap();
        assert_eq!(format.parse("1700000000.123456789", ROWS), Some(1_700_000_000_123_456_789));
        assert_eq!(TimeFormat::detect("0"), Some(TimeFormat::RowNumber));
        assert_eq!(TimeFormat::RowNumber.parse("3", ROWS), Some(1_180));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "x", "-", "1e9", "2013-13-02 21:15:00", "NaN", "1.2.3"] {
            assert_eq!(TimeFormat::detect(text), None, "{text:?}");
        }
        assert_eq!(TimeFormat::Unix(1_000_000_000).parse("99999999999999", ROWS), None, "past 2262");
        assert_eq!(TimeFormat::Unix(1_000_000_000).parse("2013-12-02 21:15:00", ROWS), None, "formats are not mixed");
    }
}
