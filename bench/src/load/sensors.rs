//! The simulated fleet: what each sensor reads at each moment, and which of them are at fault.
//!
//! A value is a function of series and row alone (a sine with noise), so nothing of the fleet is kept but its names.

use eddy_schemas::{ReadingsBuilder, SeriesName, Timestamp};

/// Rows of the sine's period; windows of 64 rows hold two.
const PERIOD_ROWS: f64 = 32.0;
/// A fault lifts all channels of its device by that much; noise and sine stay within 1.3.
const FAULT: f64 = 40.0;
/// A fault lasts so many rows.
const FAULT_ROWS: u64 = 3;

/// Devices, each with the same channels.
#[derive(Clone, Debug)]
pub(super) struct Sensors {
    /// How many devices.
    pub(super) devices: usize,
    /// How many channels each has.
    pub(super) channels: usize,
    /// `device/channel`, device by device.
    names: Vec<String>,
}

impl Sensors {
    /// Named `dev-00000/ch-0` and so on.
    pub(super) fn new(devices: usize, channels: usize) -> Self {
        let name = |index: usize| {
            SeriesName::encode(&format!("dev-{:05}", index / channels), &format!("ch-{}", index % channels))
        };
        Self { devices, channels, names: (0..devices * channels).map(name).collect() }
    }

    /// How many series.
    pub(super) fn series(&self) -> usize {
        self.names.len()
    }

    /// The canonical name of a series.
    pub(super) fn name(&self, series: usize) -> &str {
        &self.names[series]
    }

    /// The first row of the fault of a series' device among `rows` rows from row `first` on, if it has one: every row but
    /// the last few is as likely. `share` of the devices are at fault, at least one.
    fn fault(&self, device: usize, faults: &Faults) -> Option<u64> {
        let drawn = hash(device as u64, faults.first) as f64 / u64::MAX as f64;
        let chosen = drawn < faults.share || device == (faults.first % self.devices as u64) as usize;
        let room = faults.rows.saturating_sub(FAULT_ROWS).max(1);
        (chosen && faults.rows > 0).then(|| faults.first + hash(faults.first, device as u64) % room)
    }

    /// What a series reads at row `row`.
    pub(super) fn value(&self, series: usize, row: u64, faults: &Faults) -> f64 {
        let noise = hash(series as u64, row) as f64 / u64::MAX as f64 - 0.5;
        let angle = ((row % PERIOD_ROWS as u64) as f64 + series as f64) * std::f64::consts::TAU / PERIOD_ROWS;
        let fault = match self.fault(series / self.channels, faults) {
            Some(first) if (first..first + FAULT_ROWS).contains(&row) => FAULT,
            _ => 0.0,
        };
        angle.sin() + 0.5 * noise + fault
    }

    /// Adds the readings of `devices` at one time.
    pub(super) fn push(
        &self,
        batch: &mut ReadingsBuilder,
        devices: std::ops::Range<usize>,
        row: u64,
        time: Timestamp,
        faults: &Faults,
    ) {
        for series in devices.start * self.channels..devices.end * self.channels {
            batch.push(self.name(series), time, self.value(series, row, faults), 0, time);
        }
    }
}

/// Which rows hold faults, and how many devices have one there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The first row of the stretch.
    pub(super) first: u64,
    /// Its length; 0: no faults.
    pub(super) rows: u64,
    /// The part of the devices.
    pub(super) share: f64,
}

/// Numbers that look drawn and are the same in every run (splitmix64's finaliser).
pub(super) fn hash(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_the_share_of_the_devices_is_at_fault_for_three_rows_each() {
        let sensors = Sensors::new(1000, 2);
        let faults = Faults { first: 300, rows: 60, share: 0.1 };
        let at_fault =
            |device: usize| (300..360).filter(|row| sensors.value(device * 2, *row, &faults) > 10.0).count() as u64;
        let rows: Vec<u64> = (0..1000).map(at_fault).collect();
        let devices = rows.iter().filter(|rows| **rows > 0).count();
        assert!((70..130).contains(&devices), "{devices}");
        assert!(rows.iter().all(|rows| [0, FAULT_ROWS].contains(rows)));
        assert!((0..1000).all(|device| sensors.value(device * 2, 100, &faults) < 2.0));
    }

    #[test]
    fn a_small_fleet_has_one_fault_and_a_stretch_without_rows_none() {
        let sensors = Sensors::new(5, 1);
        let count = |faults: &Faults| (0..5).filter(|device| sensors.fault(*device, faults).is_some()).count();
        assert!(count(&Faults { first: 7, rows: 3, share: 0.0 }) >= 1);
        assert_eq!(count(&Faults::default()), 0);
    }
}
