//! Pictures of windows: their samples, as far as SAMPLES still holds them.

use std::collections::HashMap;

use eddy_runtime::client::{ClientError, ReadFrom};
use eddy_schemas::{Samples, SeriesName, Timestamp, search::FoundWindow};
use futures_util::StreamExt as _;

use crate::{bars, gateway::Gateway};

/// So much of SAMPLES is read at most: a picture is no reason to wait for minutes.
const BYTES_MAX: usize = 256 << 20;
/// Characters of a picture.
const WIDTH: usize = 32;

/// Samples of a series from `start` to `end`, both included.
pub(super) struct Stretch {
    pub(super) series: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
}

impl From<&FoundWindow> for Stretch {
    fn from(window: &FoundWindow) -> Self {
        let series = SeriesName::encode(&window.device, &window.channel);
        Self { series, start: window.start, end: window.end }
    }
}

/// One picture for each; an empty one where its samples are gone, or its beginning is not known.
pub(super) async fn of(gateway: &Gateway, stretches: &[Stretch]) -> Result<Vec<String>, ClientError> {
    let mut wanted: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, stretch) in stretches.iter().enumerate().filter(|(_, stretch)| stretch.start < stretch.end) {
        wanted.entry(&stretch.series).or_default().push(index);
    }
    let mut samples: Vec<Vec<f64>> = vec![Vec::new(); stretches.len()];
    if wanted.is_empty() {
        return Ok(vec![String::new(); stretches.len()]);
    }
    let filter = format!("samples.{}.*", gateway.site_token());
    let mut messages = gateway.client.read("SAMPLES", &[&filter], ReadFrom::Start).await?;
    let mut bytes = 0;
    while let Some(message) = messages.next().await {
        let message = message?;
        bytes += message.payload.len();
        if bytes > BYTES_MAX {
            break;
        }
        let Ok(batch) = Samples::decode(&message.payload) else { continue };
        for row in 0..batch.rows.len() {
            let time = batch.rows.time[row];
            for index in wanted.get(batch.rows.name(row)).into_iter().flatten() {
                if (stretches[*index].start..=stretches[*index].end).contains(&time) {
                    samples[*index].push(batch.value[row]);
                }
            }
        }
    }
    Ok(samples.iter().map(|samples| picture(samples)).collect())
}

/// The mean of each of at most [`WIDTH`] equal parts, between the least and the greatest of them.
pub(super) fn picture(samples: &[f64]) -> String {
    bars::draw(samples, WIDTH, 1, bars::mean).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_shows_the_shape_whatever_the_scale() {
        assert_eq!(picture(&[]), "");
        assert_eq!(picture(&[5.0; 3]), "▄▄▄");
        assert_eq!(picture(&[0.0, 7.0, 3.5]), "▁█▅");
        let ramp: Vec<f64> = (0..640).map(f64::from).collect();
        let drawn = picture(&ramp);
        assert_eq!((drawn.chars().count(), drawn.chars().next(), drawn.chars().last()), (32, Some('▁'), Some('█')));
    }
}
