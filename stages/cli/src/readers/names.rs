//! Devices and series of a replay, each under a small number.

use std::collections::HashMap;

use eddy_schemas::SeriesName;

/// The names met so far.
#[derive(Debug, Default)]
pub struct Names {
    devices: Vec<String>,
    series: Vec<String>,
    by_device: HashMap<String, u32>,
    by_series: HashMap<String, u32>,
}

/// A device or channel name that no series can have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is empty or too long for a device or channel")]
pub struct InvalidName(pub String);

impl Names {
    /// The number of a device.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn device(&mut self, name: &str) -> Result<u32, InvalidName> {
        if let Some(id) = self.by_device.get(name) {
            return Ok(*id);
        }
        if !eddy_schemas::names::is_valid(name) {
            return Err(InvalidName(name.to_owned()));
        }
        let id = self.devices.len() as u32;
        self.devices.push(name.to_owned());
        self.by_device.insert(name.to_owned(), id);
        Ok(id)
    }

    /// The number of a device's channel.
    ///
    /// # Errors
    /// If it cannot be one.
    pub fn series(&mut self, device: u32, channel: &str) -> Result<u32, InvalidName> {
        if !eddy_schemas::names::is_valid(channel) {
            return Err(InvalidName(channel.to_owned()));
        }
        let series = SeriesName::encode(&self.devices[device as usize], channel);
        if let Some(id) = self.by_series.get(&series) {
            return Ok(*id);
        }
        let id = self.series.len() as u32;
        self.series.push(series.clone());
        self.by_series.insert(series, id);
        Ok(id)
    }

    /// A device's name, as its operator calls it.
    pub fn device_name(&self, id: u32) -> &str {
        &self.devices[id as usize]
    }

    /// A series' canonical text.
    pub fn series_name(&self, id: u32) -> &str {
        &self.series[id as usize]
    }

    /// How many devices there are.
    pub fn devices(&self) -> usize {
        self.devices.len()
    }
}
