//! Of a large site's devices only so many: both bundles' states of all series would take more memory than a gateway has.

use std::collections::HashSet;

use eddy_schemas::{ControlKind, Readings, ReadingsBuilder, SeriesName};

/// The devices that were met first, whole, until they have so many series together.
#[derive(Debug)]
pub(super) struct Sample {
    series_max: usize,
    devices: HashSet<String>,
    series: HashSet<String>,
    /// Rows of other devices so far.
    pub(super) left_out: u64,
}

impl Sample {
    pub(super) fn new(series_max: usize) -> Self {
        Self { series_max, devices: HashSet::new(), series: HashSet::new(), left_out: 0 }
    }

    /// The batch with the rows of the sample's devices, and every control in its place, but those that change bundles: each side
    /// runs the one that it is there for.
    pub(super) fn of(&mut self, readings: &Readings) -> Vec<u8> {
        let mut batch = ReadingsBuilder::default();
        for row in 0..readings.rows.len() {
            let arrival = readings.arrival[row];
            if let Some(control) = readings.rows.control(row) {
                if !matches!(control.kind, ControlKind::Bundle { .. }) {
                    batch.push_control(control, arrival);
                }
                continue;
            }
            let name = readings.rows.name(row);
            if !self.takes(name) {
                self.left_out += 1;
                continue;
            }
            batch.push(name, readings.rows.time[row], readings.value[row], readings.quality[row], arrival);
            if let Some(burst) = readings.burst(row) {
                batch.burst(burst);
            }
        }
        batch.encode()
    }

    fn takes(&mut self, name: &str) -> bool {
        if self.series.contains(name) {
            return true;
        }
        let device = SeriesName::device_token(name);
        if !self.devices.contains(device) {
            if self.series.len() >= self.series_max {
                return false;
            }
            self.devices.insert(device.to_owned());
        }
        self.series.insert(name.to_owned());
        true
    }
}

#[cfg(test)]
mod tests {
    use eddy_schemas::{BundleAction, Control, bursts::Burst};

    use super::*;

    #[test]
    fn devices_are_whole_and_controls_bursts_and_order_stay() {
        let kind = ControlKind::DeviceReset { device: "c".into() };
        let control = Control { id: "1".into(), origin: "cli".into(), time: 7, kind };
        let mut batch = ReadingsBuilder::default();
        batch.push("a/t", 1, 1.5, 3, 11);
        batch.burst(Burst { rate_hz: 100.0, values: &[1.0; 64] });
        batch.push_control(&control, 12);
        let kind = ControlKind::Bundle { digest: "0".repeat(64), action: BundleAction::Activate };
        batch.push_control(&Control { id: "2".into(), kind, ..control.clone() }, 12);
        batch.push("b/t", 1, 2.0, 0, 13);
        batch.push("c/t", 1, 3.0, 0, 14);
        batch.push("a/u", 1, 4.0, 0, 15);
        let mut sample = Sample::new(2);
        let kept = Readings::decode(&sample.of(&Readings::decode(&batch.encode()).unwrap())).unwrap();
        assert_eq!((kept.rows.len(), sample.left_out), (4, 1));
        assert_eq!(kept.rows.control(1), Some(&control));
        assert_eq!([0, 2, 3].map(|row| kept.rows.name(row)), ["a/t", "b/t", "a/u"]);
        assert_eq!((kept.value[0], kept.quality[0], kept.arrival[0]), (1.5, 3, 11));
        assert_eq!(kept.burst(0).map(|burst| burst.values.len()), Some(64));
        assert!(kept.burst(2).is_none());
    }
}
