//! A collector that takes traces and throws them away.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;

/// Requests and bytes that came.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Listens on a port of its own until the process ends.
#[derive(Debug)]
pub(super) struct Sink {
    counts: Arc<Counts>,
    url: String,
}

impl Sink {
    /// Starts it.
    ///
    /// # Errors
    /// That no port is free.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        let counts = Arc::<Counts>::default();
        let shared = counts.clone();
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let counts = shared.clone();
                // A connection that breaks off is its sender's to make again.
                std::thread::spawn(move || serve(connection, &counts));
            }
        });
        Ok(Self { counts, url })
    }

    /// Its address, as `telemetry.traces.endpoint` takes it.
    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// How many requests came.
    pub(super) fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// How many bytes their bodies had.
    pub(super) fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }
}

fn serve(connection: TcpStream, counts: &Counts) -> std::io::Result<()> {
    let mut answers = connection.try_clone()?;
    let mut requests = BufReader::new(connection);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
            if line == "\r\n" {
                break;
            }
        }
        std::io::copy(&mut requests.by_ref().take(length), &mut std::io::sink())?;
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.bytes.fetch_add(length, Ordering::Relaxed);
        answers.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_one_connection_are_answered_and_counted() {
        let sink = Sink::start().unwrap();
        let mut connection = TcpStream::connect(sink.url().strip_prefix("http://").unwrap()).unwrap();
        for _ in 0..2 {
            connection.write_all(b"POST /v1/traces HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde").unwrap();
            let mut answer = [0; 38];
            connection.read_exact(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"\r\n\r\n"));
        }
        assert_eq!((sink.requests(), sink.bytes()), (2, 10));
    }
}
