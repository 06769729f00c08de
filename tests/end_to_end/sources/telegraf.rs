//! Telegraf's `outputs.influxdb_v2`, replayed from its documented behaviour: batches of `metric_batch_size` lines out of a
//! bounded buffer, gzipped, with its headers; what each answer makes it do is in [`Telegraf::flush`].

use std::{collections::VecDeque, io::Write, time::Duration};

use tokio::time::Instant;

/// An output plugin and its buffer.
pub struct Telegraf {
    url: String,
    token: String,
    client: reqwest::Client,
    buffer: VecDeque<String>,
    batch_lines_max: usize,
    retries: u32,
    not_before: Instant,
    /// Lines that the gateway took.
    pub accepted: usize,
    /// Lines that a 4xx made it drop, and what was said.
    pub dropped: Vec<(usize, String)>,
    /// Answers that made it wait, and the wait that they asked for.
    pub throttled: Vec<(u16, Option<String>)>,
}

/// What an answer makes it do with a batch.
enum Verdict {
    Accept,
    Drop(String),
    Split,
    Keep,
}

impl Telegraf {
    /// With the defaults of Telegraf's own config: batches of 1,000 lines, 5 s for an answer.
    pub fn new(port: u16, token: &str) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            url: format!("http://127.0.0.1:{port}/api/v2/write?bucket=telegraf&org=plant"),
            token: token.to_owned(),
            client: reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap(),
            buffer: VecDeque::new(),
            batch_lines_max: 1_000,
            retries: 0,
            not_before: Instant::now(),
            accepted: 0,
            dropped: Vec::new(),
            throttled: Vec::new(),
        }
    }

    /// What inputs gathered, with the agent's `host` tag where they set none.
    pub fn gather(&mut self, lines: &str) {
        self.buffer.extend(lines.lines().map(|line| line.to_owned() + "\n"));
    }

    /// How many lines wait.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// One flush interval: writes batches until the buffer is empty or an answer asks it to wait.
    pub async fn flush(&mut self) {
        while !self.buffer.is_empty() && Instant::now() >= self.not_before {
            let count = self.buffer.len().min(self.batch_lines_max);
            if !self.write(count).await {
                return;
            }
        }
    }

    /// Flushes until the buffer is empty.
    pub async fn flush_all(&mut self) {
        while !self.buffer.is_empty() {
            self.flush().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes the oldest `count` lines; whether to go on.
    async fn write(&mut self, count: usize) -> bool {
        let lines: String = self.buffer.iter().take(count).map(String::as_str).collect();
        match self.post(&lines).await {
            Verdict::Accept => {
                self.buffer.drain(..count);
                self.accepted += count;
            }
            Verdict::Drop(said) => {
                self.buffer.drain(..count);
                self.dropped.push((count, said));
            }
            // A single line that is too large would be dropped.
            Verdict::Split => self.batch_lines_max = (count / 2).max(1),
            Verdict::Keep => return false,
        }
        true
    }

    async fn post(&mut self, lines: &str) -> Verdict {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(lines.as_bytes()).unwrap();
        let request = self
            .client
            .post(&self.url)
            .header("User-Agent", "Telegraf/1.36.0 Go/1.25.0")
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("Content-Encoding", "gzip")
            .header("Authorization", format!("Token {}", self.token))
            .body(gzip.finish().unwrap());
        // No answer: the batch stays, for the next interval.
        let Ok(answer) = request.send().await else { return Verdict::Keep };
        let status = answer.status().as_u16();
        let retry_after = answer.headers().get("Retry-After").map(|value| value.to_str().unwrap().to_owned());
        let said = answer.text().await.unwrap_or_default();
        match status {
            200..=299 => {
                self.retries = 0;
                Verdict::Accept
            }
            413 => Verdict::Split,
            // A wrong token may be put right.
            401 | 403 => Verdict::Keep,
            429 | 502 | 503 | 504 => {
                self.retries += 1;
                // The longer of what it is told and its own back-off.
                let own = f64::from(self.retries).powi(2) / 40.0;
                let told = retry_after.as_deref().map_or(0.0, |text| text.parse().unwrap_or(10.0));
                self.not_before = Instant::now() + Duration::from_secs_f64(own.min(60.0).max(told));
                self.throttled.push((status, retry_after));
                Verdict::Keep
            }
            400..=499 => Verdict::Drop(said),
            _ => Verdict::Keep,
        }
    }
}
