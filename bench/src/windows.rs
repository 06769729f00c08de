//! `eddy query --like FILE`: the windows of a recorded file, made and judged as the gateway's stages would.
//!
//! A file brings no commissioning with it, so each device commissions itself on the first part of what it has: as many rows as
//! the configuration says, but at most half of its shortest series. What lies in that part is learned from, and is not told.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail, ensure};
use eddy_cli::readers::{
    Merged, ReadOptions, Row,
    open::{self, BytesRead},
    time::RowClock,
};
use eddy_schemas::{Scores, SeriesName, Timestamp, flags, names};
use serde::Serialize;

use crate::{
    chain::Chain,
    pipeline::{Pipeline, Settings},
};

/// What to read, and which of its windows to tell.
#[derive(Clone, Debug, clap::Args)]
pub struct WindowsArgs {
    /// A file in any format that `eddy replay` takes
    pub file: PathBuf,
    /// Only this device of the file
    #[arg(long)]
    pub device: Option<String>,
    /// Only this channel
    #[arg(long)]
    pub channel: Option<String>,
    /// Only so many windows, the most unusual first [default: all, in their order]
    #[arg(long, value_name = "N")]
    pub unusual: Option<usize>,
    /// Time of row 0 where the file counts rows instead of time, in nanoseconds since the Unix epoch
    #[arg(long, default_value_t = 1_577_836_800_000_000_000)]
    pub start: Timestamp,
    /// Nanoseconds from row to row there
    #[arg(long, default_value_t = 60_000_000_000)]
    pub period: i64,
    /// One line of JSON a window
    #[arg(long)]
    pub json: bool,
    /// Bundle and configuration.
    #[command(flatten)]
    pub settings: Settings,
}

/// A window of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FileWindow {
    /// Digest of the bundle that made the vector.
    pub bundle: String,
    /// The device.
    pub device: String,
    /// The channel.
    pub channel: String,
    /// Event time of its first sample; its last one's where the series' period is not known.
    pub start: Timestamp,
    /// Event time of its last sample.
    pub end: Timestamp,
    /// How many of its samples are real.
    pub filled: u16,
    /// Its anomaly score.
    pub score: f32,
    /// Its tail probability among the series' own past.
    pub tail: f64,
    /// The vector of the head that may leave the gateway.
    pub vector: Vec<f32>,
    /// How many series of the file have windows.
    pub series: usize,
}

/// How many readings each series of a file has, by its canonical text.
type Counts = BTreeMap<String, usize>;

/// The windows that are asked for.
///
/// # Errors
/// A file that cannot be read, or that is too short; what is wrong with the configuration.
pub fn run(args: &WindowsArgs) -> Result<Vec<FileWindow>> {
    let settings = Settings {
        set: [&args.settings.set[..], &["detect.tell_windows=all".into()]].concat(),
        ..args.settings.clone()
    };
    let pipeline = Pipeline::new(&settings)?;
    let least = pipeline.least_rows()?;
    let counts = wanted(count(args)?, args)?;
    let usable: Counts =
        counts.iter().filter(|(_, rows)| **rows >= least).map(|(name, rows)| (name.clone(), *rows)).collect();
    if usable.is_empty() {
        let (name, rows) = counts.iter().max_by_key(|(_, rows)| **rows).context("no reading")?;
        bail!(
            "{}: {name} has {rows} readings, no series has more; at least {least} are needed: half to learn its scale from, half for a window",
            args.file.display()
        );
    }
    let mut windows = judged(&pipeline, args, &usable)?;
    ensure!(
        !windows.is_empty(),
        "{}: no window past the first half of its series has {} real samples: its readings lie too far apart, or are late",
        args.file.display(),
        least / 2
    );
    if let Some(most) = args.unusual {
        // Stable: of equals the earlier one.
        windows.sort_by(|a, b| a.tail.total_cmp(&b.tail).then(b.score.total_cmp(&a.score)));
        windows.truncate(most);
    }
    Ok(windows)
}

impl Pipeline {
    /// Readings that a series needs for one window: as many real samples as the head that may leave the gateway wants, and as many
    /// before to commission it.
    fn least_rows(&self) -> Result<usize> {
        let leaving = self.manifest.heads.iter().find(|head| head.leaves_gateway);
        Ok(2 * leaving.context("the bundle has no head that may leave the gateway")?.min_rows)
    }

    /// Rows that commission a device whose shortest series has so many.
    fn commissioned_by(&self, rows: usize) -> usize {
        let configured = self.embed.commissioning_rows;
        let usual = if configured == 0 { self.manifest.commissioning_rows } else { configured };
        usual.min(rows / 2).max(2)
    }
}

fn read(args: &WindowsArgs, mut each: impl FnMut(&str, Timestamp, f64) -> Result<()>) -> Result<()> {
    let options = ReadOptions { device: None, rows: RowClock { start: args.start, period: args.period } };
    let (files, _) = open::files(std::slice::from_ref(&args.file))?;
    let mut merged = Merged::open(&files, &options, &BytesRead::default())?;
    let mut row = Row::default();
    while merged.next_row(&mut row)? {
        for (series, value) in &row.values {
            each(merged.names().series_name(*series), row.time, *value)?;
        }
    }
    Ok(())
}

fn count(args: &WindowsArgs) -> Result<Counts> {
    let mut counts = Counts::new();
    read(args, |name, _, _| {
        match counts.get_mut(name) {
            Some(rows) => *rows += 1,
            None => drop(counts.insert(name.to_owned(), 1)),
        }
        Ok(())
    })?;
    Ok(counts)
}

/// The series that are asked for.
fn wanted(counts: Counts, args: &WindowsArgs) -> Result<Counts> {
    ensure!(!counts.is_empty(), "{}: holds no reading with a time and a number", args.file.display());
    let (device, channel) = (args.device.as_deref().map(names::encode), args.channel.as_deref().map(names::encode));
    let is_wanted = |name: &str| {
        let (of, called) = name.split_once('/').unwrap_or((name, ""));
        device.as_deref().is_none_or(|device| device == of)
            && channel.as_deref().is_none_or(|channel| channel == called)
    };
    let known: Vec<String> = counts.keys().take(20).cloned().collect();
    let wanted: Counts = counts.into_iter().filter(|(name, _)| is_wanted(name)).collect();
    ensure!(!wanted.is_empty(), "{}: no such device or channel; it has {}", args.file.display(), known.join(", "));
    Ok(wanted)
}

/// All windows of the series in `usable`, through the stages. Devices that commission themselves on as many rows share the stages.
fn judged(pipeline: &Pipeline, args: &WindowsArgs, usable: &Counts) -> Result<Vec<FileWindow>> {
    let mut shortest: HashMap<&str, usize> = HashMap::new();
    for (name, rows) in usable {
        let least = shortest.entry(SeriesName::device_token(name)).or_insert(*rows);
        *least = (*least).min(*rows);
    }
    let rows_of =
        |name: &str| shortest.get(SeriesName::device_token(name)).map_or(0, |rows| pipeline.commissioned_by(*rows));
    let mut chains: BTreeMap<usize, Chain> = BTreeMap::new();
    for name in usable.keys() {
        let rows = rows_of(name);
        if let Entry::Vacant(chain) = chains.entry(rows) {
            chain.insert(pipeline.chain(rows)?.with_messages());
        }
    }
    read(args, |name, time, value| match chains.get_mut(&rows_of(name)).filter(|_| usable.contains_key(name)) {
        Some(chain) => chain.push(name, time, value),
        None => Ok(()),
    })?;
    let mut windows = Vec::new();
    for chain in chains.into_values() {
        for message in chain.finish()?.messages.iter().filter(|message| message.subject.starts_with("scores.")) {
            told(&Scores::decode(&message.payload)?, usable.len(), &mut windows);
        }
    }
    Ok(windows)
}

fn told(scores: &Scores, series: usize, windows: &mut Vec<FileWindow>) {
    for row in 0..scores.rows.len() {
        let Some(window) = scores.window(row).filter(|_| scores.flags[row] & flags::COMMISSIONING == 0) else {
            continue;
        };
        let name = scores.rows.name(row);
        let Some(SeriesName { device, channel }) = SeriesName::parse(name) else { continue };
        let end = scores.rows.time[row];
        windows.push(FileWindow {
            bundle: scores.bundle.clone(),
            device,
            channel,
            start: end.saturating_sub(window.span),
            end,
            filled: window.filled,
            score: scores.score[row],
            tail: scores.tail[row],
            vector: window.vector.iter().map(|x| x.to_f32()).collect(),
            series,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A minute apart, with something in channel `b` of device `two` at row 900.
    fn file(folder: &std::path::Path, rows: usize) -> WindowsArgs {
        let mut text = String::from("time,device,a,b\n");
        for row in 0..rows {
            for (device, shift) in [("one", 0), ("two", 7)] {
                let at = (row + shift) as f64;
                let spike = if device == "two" && (900..903).contains(&row) { 9.0 } else { 0.0 };
                let noise = ((row * 7_919 + shift * 31) % 101) as f64 / 400.0;
                let (a, b) = ((at / 15.0).sin() + noise, (at / 11.0).cos() + noise + spike);
                writeln!(text, "{},{device},{a},{b}", 1_700_000_000 + 60 * row).unwrap();
            }
        }
        let file = folder.join("two devices.csv");
        std::fs::write(&file, text).unwrap();
        WindowsArgs {
            file,
            device: None,
            channel: None,
            unusual: None,
            start: 0,
            period: 60_000_000_000,
            json: true,
            settings: Settings::default(),
        }
    }

    #[test]
    fn the_most_unusual_window_is_found_and_device_and_channel_choose() {
        let folder = tempfile::tempdir().unwrap();
        let args = file(folder.path(), 1_200);
        let all = run(&args).unwrap();
        // What commissions the series is not told; every window after it is, in order of time within a series.
        assert_eq!(all.len(), 4 * (1_200 - 400));
        let of_one: Vec<&FileWindow> =
            all.iter().filter(|window| (&*window.device, &*window.channel) == ("one", "a")).collect();
        assert!(of_one.len() == 800 && of_one.is_sorted_by_key(|window| window.end));
        assert!(
            of_one.iter().all(|window| window.vector.len() == 16 && window.end - window.start == 63 * 60_000_000_000)
        );
        let most = run(&WindowsArgs { unusual: Some(1), ..args.clone() }).unwrap();
        let row = |window: &FileWindow| (window.end / 1_000_000_000 - 1_700_000_000) / 60;
        assert_eq!((most.len(), &*most[0].device, &*most[0].channel, most[0].series), (1, "two", "b", 4));
        assert!((900..964).contains(&row(&most[0])), "{}", row(&most[0]));
        let (device, channel) = (Some("one".to_owned()), Some("a".to_owned()));
        let chosen = run(&WindowsArgs { device, channel, ..args.clone() }).unwrap();
        assert!(chosen.len() == 800 && chosen.iter().all(|window| window.series == 1));
        let wrong = run(&WindowsArgs { device: Some("three".into()), ..args }).unwrap_err().to_string();
        assert!(wrong.contains("no such device or channel; it has one/a, one/b, two/a, two/b"), "{wrong}");
    }

    #[test]
    fn a_short_file_learns_from_its_first_half_and_one_that_is_too_short_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let windows = run(&file(folder.path(), 120)).unwrap();
        assert_eq!(windows.len(), 4 * 60);
        let told = run(&file(folder.path(), 63)).unwrap_err().to_string();
        assert!(told.contains("63 readings") && told.contains("at least 64 are needed"), "{told}");
        assert_eq!(run(&file(folder.path(), 64)).unwrap().len(), 4 * 32);
    }
}
