//! Windows of a recorded file: `eddy-eval` beside this binary makes and judges them as the gateway's stages would; what it needs
//! for that (the inference engine) is not carried by `eddy`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use eddy_schemas::{SeriesName, Timestamp, search::FoundWindow};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::pictures;
use crate::{
    gateway::{Gateway, GatewayArgs},
    handed,
    readers::{Merged, ReadOptions, Row, open::BytesRead, time::RowClock},
    rollout::seen::Seen,
    up::bundle,
};

/// Time of row 0 where a file counts rows instead of time, and from row to row: replay's defaults.
const ROWS: RowClock = RowClock { start: 1_577_836_800_000_000_000, period: 60_000_000_000 };

/// What is asked of a file.
#[derive(Clone, Debug)]
pub(super) struct FileQuestion<'a> {
    pub(super) path: &'a Path,
    pub(super) device: Option<&'a str>,
    pub(super) channel: Option<&'a str>,
    pub(super) config: Option<&'a Path>,
}

/// A window of it, as `eddy-eval windows` tells it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct FileWindow {
    pub(super) bundle: String,
    pub(super) device: String,
    pub(super) channel: String,
    pub(super) start: Timestamp,
    pub(super) end: Timestamp,
    pub(super) filled: u16,
    pub(super) score: f32,
    pub(super) tail: f64,
    pub(super) vector: Vec<f32>,
    /// How many series of the file have windows.
    pub(super) series: usize,
}

impl FileWindow {
    /// As an answer's windows are shown.
    pub(super) fn as_found(&self) -> FoundWindow {
        FoundWindow {
            window: 0,
            device: self.device.clone(),
            channel: self.channel.clone(),
            start: self.start,
            end: self.end,
            distance: 0.0,
            score: self.score,
            filled: self.filled,
            sequence: 0,
            alert: None,
            label: None,
        }
    }
}

/// The most unusual window of the file, with the bundle and configuration of the gateway as far as they are known.
pub(super) async fn most_unusual(
    question: &FileQuestion<'_>,
    gateway: &Gateway,
    args: &GatewayArgs,
) -> Result<FileWindow> {
    let mut command = Command::new(handed::binary(handed::EVAL)?);
    command.args(["windows", "--json", "--unusual", "1"]).arg(question.path);
    command.args(["--start", &ROWS.start.to_string(), "--period", &ROWS.period.to_string()]);
    for (option, name) in [("--device", question.device), ("--channel", question.channel)] {
        command.args(name.map(|name| [OsString::from(option), name.into()]).into_iter().flatten());
    }
    if let Some(config) = config(question, gateway) {
        command.arg("--config").arg(config);
    }
    if question.config.is_none()
        && let Some(file) = &gateway.file
    {
        let dir = std::path::absolute(&args.bus.dir)?;
        let active = Seen::ask(gateway).await?.active.pop_first().map(|digest| bundle::folder(&dir).join(digest));
        match active.filter(|place| place.is_dir()) {
            Some(place) => command.envs(bundle::environment(&place, &file.trusted_keys)),
            None if file.own_bundle => &mut command,
            None => command.envs(bundle::environment(&bundle::default_place(&dir), &file.trusted_keys)),
        };
    }
    let ran = command.stdin(Stdio::null()).output().await.context("eddy-eval")?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(ran.status.success(), "{} cannot be asked about: {}", question.path.display(), said.trim());
    eprint!("{said}");
    let line = ran.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice(line).context("eddy-eval is of another release")
}

/// The config that the gateway's stages run with: as given, or as it said itself.
fn config(question: &FileQuestion<'_>, gateway: &Gateway) -> Option<PathBuf> {
    let known = || gateway.file.as_ref().and_then(|file| file.config_file.clone());
    question.config.map(Path::to_owned).or_else(known)
}

/// A picture of its readings in the file.
pub(super) fn picture(path: &Path, window: &FileWindow) -> Result<String> {
    let options = ReadOptions { device: None, rows: ROWS };
    let mut merged = Merged::open(&[path.to_owned()], &options, &BytesRead::default())?;
    let wanted = SeriesName::encode(&window.device, &window.channel);
    let (mut row, mut readings) = (Row::default(), Vec::new());
    while merged.next_row(&mut row)? {
        let values = row.values.iter().filter(|(series, _)| merged.names().series_name(*series) == wanted);
        if (window.start..=window.end).contains(&row.time) {
            readings.extend(values.map(|(_, value)| *value));
        }
    }
    Ok(pictures::picture(&readings))
}
