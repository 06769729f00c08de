//! A device's times as numbers and text, exact to the nanosecond: `1700000000.1` is no float on its way.

use eddy_schemas::Timestamp;
use serde::Deserialize;

use super::collect::excerpt;

/// What a time given as a number is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds since the Unix epoch.
    S,
    /// Milliseconds.
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
    /// Numbers are refused: only RFC 3339 strings are taken.
    Rfc3339,
    /// By the number's magnitude alone: below 1e11 seconds, 1e14 milliseconds, 1e17 microseconds, else nanoseconds.
    Auto,
}

impl TimeUnit {
    /// The time behind an integer.
    ///
    /// # Errors
    /// Outside the years 1677 to 2262, or numbers are not taken.
    pub fn integer(self, value: i64) -> Result<Timestamp, String> {
        let power = self.power(value.unsigned_abs().into()).ok_or_else(|| number_refused(&value.to_string()))?;
        value.checked_mul(10_i64.pow(power)).ok_or_else(|| out_of_range(&value.to_string()))
    }

    /// The time behind a decimal number as JSON writes it. What is finer than a nanosecond is cut off.
    ///
    /// # Errors
    /// As [`Self::integer`].
    pub fn decimal(self, text: &str) -> Result<Timestamp, String> {
        let number = Decimal::parse(text).ok_or_else(|| out_of_range(text))?;
        let whole = number.scaled(0).ok_or_else(|| out_of_range(text))?;
        let power = self.power(whole.unsigned_abs()).ok_or_else(|| number_refused(text))?;
        let nanoseconds = number.scaled(power as i32).and_then(|value| Timestamp::try_from(value).ok());
        nanoseconds.ok_or_else(|| out_of_range(text))
    }

    /// The power of ten from this unit to nanoseconds.
    fn power(self, magnitude: u128) -> Option<u32> {
        const AUTO: [(u128, u32); 3] = [(100_000_000_000, 9), (100_000_000_000_000, 6), (100_000_000_000_000_000, 3)];
        match self {
            Self::S => Some(9),
            Self::Ms => Some(6),
            Self::Us => Some(3),
            Self::Ns => Some(0),
            Self::Rfc3339 => None,
            Self::Auto => Some(AUTO.iter().find(|(below, _)| magnitude < *below).map_or(0, |(_, power)| *power)),
        }
    }
}

/// The time behind RFC 3339 text.
///
/// # Errors
/// Not RFC 3339 with an offset, or outside the years 1677 to 2262.
pub fn rfc3339(text: &str) -> Result<Timestamp, String> {
    // Longer than any time can be: not worth parsing.
    let parsed = if text.len() <= 64 { text.parse::<jiff::Timestamp>().ok() } else { None };
    let parsed = parsed.ok_or_else(|| {
        format!("time {} is not RFC 3339 with its offset, such as 2026-01-31T12:00:00Z", excerpt(text))
    })?;
    Timestamp::try_from(parsed.as_nanosecond()).map_err(|_| out_of_range(text))
}

/// Nanoseconds behind a decimal number of seconds; `None` if there is no such number of them.
pub fn seconds(text: &str) -> Option<i128> {
    Decimal::parse(text)?.scaled(9)
}

fn out_of_range(text: &str) -> String {
    format!("time {} is outside the years 1677 to 2262: does time_unit say what the device sends?", excerpt(text))
}

fn number_refused(text: &str) -> String {
    format!("time {} is a number, and time_unit \"rfc3339\" takes RFC 3339 strings only", excerpt(text))
}

/// `digits * 10^exponent`.
struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// Reads a number in JSON's grammar (which the caller has checked); more than 30 digits are cut off.
    fn parse(text: &str) -> Option<Self> {
        let (mantissa, power) = match text.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (mut digits, mut taken, mut exponent, mut fraction) = (0_i128, 0, 0_i32, false);
        for byte in mantissa.bytes() {
            match byte {
                b'-' | b'+' => {}
                b'.' => fraction = true,
                b'0'..=b'9' if taken < 30 => {
                    digits = digits * 10 + i128::from(byte - b'0');
                    taken += i32::from(digits != 0);
                    exponent -= i32::from(fraction);
                }
                b'0'..=b'9' => exponent = exponent.checked_add(i32::from(!fraction))?,
                _ => return None,
            }
        }
        let digits = if mantissa.starts_with('-') { -digits } else { digits };
        Some(Self { digits, exponent: exponent.checked_add(power)? })
    }

    /// `self * 10^power`, rounded down; `None` where it does not fit.
    fn scaled(&self, power: i32) -> Option<i128> {
        let exponent = self.exponent.checked_add(power)?;
        if self.digits == 0 {
            return Some(0);
        }
        if exponent >= 0 {
            return self.digits.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?);
        }
        // A divisor that does not fit is larger than any 30 digits.
        Some(10_i128.checked_pow(exponent.unsigned_abs()).map_or(0, |divisor| self.digits.div_euclid(divisor)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_in_every_unit() {
        for (unit, text, expected) in [
            (TimeUnit::S, "1700000000.123456789", 1_700_000_000_123_456_789),
            (TimeUnit::S, "1.320067464e+09", 1_320_067_464_000_000_000),
            (TimeUnit::S, "-0.5", -500_000_000),
            (TimeUnit::Ms, "1700000000123.5", 1_700_000_000_123_500_000),
            (TimeUnit::Us, "1", 1_000),
            (TimeUnit::Ns, "1700000000000000001", 1_700_000_000_000_000_001),
            (TimeUnit::Ns, "0.9", 0),
            (TimeUnit::Ns, "0e999999999", 0),
            (TimeUnit::S, "1e-300", 0),
            (TimeUnit::Auto, "1700000000", 1_700_000_000_000_000_000),
            (TimeUnit::Auto, "1700000000123", 1_700_000_000_123_000_000),
            (TimeUnit::Auto, "1700000000123456", 1_700_000_000_123_456_000),
            (TimeUnit::Auto, "1700000000123456789", 1_700_000_000_123_456_789),
        ] {
            assert_eq!(unit.decimal(text), Ok(expected), "{unit:?} {text}");
            if let Ok(integer) = text.parse() {
                assert_eq!(unit.integer(integer), Ok(expected), "{unit:?} {text}");
            }
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_value() {
        for (unit, text) in [
            (TimeUnit::S, "1700000000123"),
            (TimeUnit::S, "1e999"),
            (TimeUnit::Ns, "1e99999999999"),
            (TimeUnit::Ns, "9223372036854775808"),
            (TimeUnit::Rfc3339, "1700000000"),
        ] {
            assert!(unit.decimal(text).unwrap_err().contains(text), "{unit:?} {text}");
        }
        for text in ["2026-01-01 00:00:00", "2026-01-01T00:00:00", "yesterday", "", "9000-01-01T00:00:00Z"] {
            assert!(rfc3339(text).unwrap_err().contains(text), "{text}");
        }
        assert_eq!(rfc3339("1970-01-01T02:00:01.5+02:00"), Ok(1_500_000_000));
    }
}
