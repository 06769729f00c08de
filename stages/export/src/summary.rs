//! What an export tells of itself.

use std::time::Instant;

use serde::Serialize;

use crate::{class::Class, job::Report, manifest::Manifest};

/// What an export did of a site.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    site: String,
    manifest: Option<String>,
    rows: u64,
    bytes: u64,
    files: u64,
    files_written: u64,
    bytes_written: u64,
    rows_held_max: usize,
    peak_rss_bytes: u64,
    seconds: f64,
    classes: Vec<OfClass>,
}

/// What it did of a class.
#[derive(Debug, Serialize)]
pub(crate) struct OfClass {
    class: &'static str,
    ranges: usize,
    messages: u64,
    rows: u64,
    files: usize,
    bytes: u64,
    gaps: usize,
    missing: u64,
    skipped: u64,
    #[serde(skip)]
    written: u64,
    #[serde(skip)]
    written_bytes: u64,
    #[serde(skip)]
    rows_held_max: usize,
}

impl OfClass {
    /// What became of it.
    pub(crate) fn of(class: Class, report: &Report) -> Self {
        let records = &report.records;
        let files = || records.iter().flat_map(|record| &record.files);
        let gaps = || records.iter().flat_map(|record| &record.gaps);
        Self {
            class: class.name(),
            ranges: records.len(),
            messages: records.iter().map(|record| record.messages).sum(),
            rows: records.iter().map(|record| record.rows).sum(),
            files: files().count(),
            bytes: files().map(|file| file.bytes).sum(),
            gaps: gaps().count(),
            missing: gaps().map(|gap| gap.last - gap.first + 1).sum(),
            skipped: records.iter().map(|record| record.skipped).sum(),
            written: report.written,
            written_bytes: report.written_bytes,
            rows_held_max: report.rows_held_max,
        }
    }

    /// For people.
    pub(crate) fn line(&self, is_dry: bool) -> String {
        let mut line = format!("{:10} {:>12} rows of {} messages", self.class, self.rows, self.messages);
        if is_dry {
            line += &format!(", {} ranges", self.ranges);
        } else {
            line += &format!(", {} files, {} bytes", self.files, self.bytes);
        }
        if self.missing > 0 {
            line += &format!("; {} sequences are no longer in the stream ({} gaps)", self.missing, self.gaps);
        }
        if self.skipped > 0 {
            line += &format!("; {} messages or entries could not be read", self.skipped);
        }
        line
    }
}

/// The most memory that this process had, as Linux tells it; 0 elsewhere.
fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|kilobytes| kilobytes.trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

impl Summary {
    /// Of a run that began then, and whose manifest lies at that path.
    pub(crate) fn new(manifest: &Manifest, path: Option<String>, classes: Vec<OfClass>, started: Instant) -> Self {
        Self {
            site: manifest.site.clone(),
            manifest: path,
            rows: manifest.rows,
            bytes: manifest.bytes,
            files: manifest.records.iter().map(|record| record.files.len() as u64).sum(),
            files_written: classes.iter().map(|class| class.written).sum(),
            bytes_written: classes.iter().map(|class| class.written_bytes).sum(),
            rows_held_max: classes.iter().map(|class| class.rows_held_max).max().unwrap_or(0),
            peak_rss_bytes: peak_rss_bytes(),
            seconds: started.elapsed().as_secs_f64(),
            classes,
        }
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        match &self.manifest {
            None => format!("{} rows; nothing was written (--dry-run)", self.rows),
            Some(manifest) => format!(
                "{} rows in {} files of {} bytes, {} of them written now, in {:.2} s; manifest={manifest}",
                self.rows, self.files, self.bytes, self.files_written, self.seconds
            ),
        }
    }
}
