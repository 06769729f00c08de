//! Asking a stage that runs whether it is well: for a container that has no other program in it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::config::TelemetryConfig;

const TIMEOUT: Duration = Duration::from_secs(3);

/// What the stage with this config answers.
///
/// # Errors
/// That it is not well, or not there: what it says.
pub(crate) fn ask(config: &TelemetryConfig) -> Result<String, String> {
    let address = address(config)?;
    let failed = |error: std::io::Error| format!("http://{address}/healthz: {error}");
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(failed)?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.take(1 << 16).read_to_string(&mut answer).map_err(failed)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim().to_owned();
    // Both HTTP/1.0 and HTTP/1.1 may answer.
    let is_well = answer.split(' ').nth(1) == Some("200");
    if is_well { Ok(body) } else { Err(format!("http://{address}/healthz: {body}")) }
}

/// Where it listens: what it wrote to its address file, or else what the config says.
fn address(config: &TelemetryConfig) -> Result<SocketAddr, String> {
    let told = std::fs::read_to_string(&config.address_file).ok();
    let text = told.as_deref().map_or(config.listen.as_str(), str::trim);
    let mut address: SocketAddr =
        text.parse().map_err(|_| format!("telemetry.listen = {text:?}: an address and port are taken here"))?;
    if address.port() == 0 {
        return Err("telemetry.listen has port 0: name a port, or a telemetry.address_file".into());
    }
    // Who listens everywhere is asked here.
    if address.ip().is_unspecified() {
        let is_v4 = address.is_ipv4();
        address.set_ip(if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, path::PathBuf};

    use super::*;
    use crate::config::LogFormat;

    fn config(listen: String) -> TelemetryConfig {
        let log = "info".to_owned();
        let (log_format, traces) = (LogFormat::Text, Default::default());
        TelemetryConfig { listen, address_file: PathBuf::new(), log, log_format, stall_after_s: 30, traces }
    }

    #[test]
    fn well_unwell_and_not_there_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = config(format!("0.0.0.0:{port}"));
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ok\"}", Ok("{\"status\":\"ok\"}".to_owned())),
            ("HTTP/1.1 503 X\r\n\r\nstalled", Err(format!("http://127.0.0.1:{port}/healthz: stalled"))),
        ] {
            let listener = listener.try_clone().unwrap();
            let serving = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 64];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(ask(&config), expected);
            serving.join().unwrap();
        }
        drop(listener);
        assert!(ask(&config).is_err());
    }

    #[test]
    fn a_port_that_is_not_known_is_told() {
        assert!(ask(&config("127.0.0.1:0".into())).unwrap_err().contains("address_file"));
    }
}
