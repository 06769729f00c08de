//! The HTTP requests that a supervisor and its tools make: is it well, and what does it tell?

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// An answer about health is read up to this.
const ANSWER_BYTES_MAX: u64 = 16_384;

/// Asks `http://ADDRESS/healthz`: the status code, and what is said.
///
/// # Errors
/// If nobody answers within `timeout`.
pub async fn health(address: &str, timeout: Duration) -> io::Result<(u16, String)> {
    get(address, "/healthz", ANSWER_BYTES_MAX, timeout).await
}

/// Asks for `http://ADDRESS/PATH`: the status code, and up to `bytes_max` of what is said.
///
/// # Errors
/// If nobody answers within `timeout`.
pub async fn get(address: &str, path: &str, bytes_max: u64, timeout: Duration) -> io::Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(bytes_max).read_to_end(&mut answer).await?;
        parse(&String::from_utf8_lossy(&answer))
    };
    tokio::time::timeout(timeout, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn parse(answer: &str) -> io::Result<(u16, String)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
    Ok((code, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_answer_is_its_code_and_its_words() {
        let answer = "HTTP/1.0 503 Service Unavailable\r\nContent-Type: x\r\n\r\n{\"status\":\"unavailable\"}\n";
        assert_eq!(super::parse(answer).unwrap(), (503, "{\"status\":\"unavailable\"}".to_owned()));
        assert!(super::parse("rubbish").is_err());
    }
}
