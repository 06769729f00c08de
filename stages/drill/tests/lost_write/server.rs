//! A real nats-server on the layer: what it has acknowledged is there after a cut if it syncs always, and only then.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use eddy_drill::lost_write::{Names, Options, Survive};
use serde_json::{Value, json};

use super::support::{Bench, Running, until};

fn binary() -> PathBuf {
    std::env::var_os("EDDY_NATS_SERVER").map_or_else(|| "nats-server".into(), Into::into)
}

/// A server that stores on the mount, and one connection that asks and waits for answers.
struct Server {
    process: Running,
    stream: BufReader<TcpStream>,
    inboxes: u64,
}

impl Server {
    fn start(dir: &Path, sync_interval: Option<&str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sync = sync_interval.map_or_else(String::new, |interval| format!(", sync_interval: {interval}"));
        let config = format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}{sync} }}\n", dir.join("at/nats"));
        let path = dir.join("server.conf");
        fs::write(&path, config).unwrap();
        let log = fs::File::create(dir.join("server.log")).unwrap();
        let process = Running::start(Command::new(binary()).arg("-c").arg(path).stdout(Stdio::null()).stderr(log));
        let stream = until("the server", || TcpStream::connect(("127.0.0.1", port)).ok());
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut server = Self { process, stream: BufReader::new(stream), inboxes: 0 };
        server.send(b"CONNECT {\"verbose\":false}\r\nSUB inbox.> 1\r\n");
        until("JetStream", || server.ask("$JS.API.INFO", b"").filter(|answer| answer.get("error").is_none()));
        server
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Publishes with a reply subject and reads the answer; `None` if none comes.
    fn ask(&mut self, subject: &str, payload: &[u8]) -> Option<Value> {
        self.inboxes += 1;
        let inbox = format!("inbox.{}", self.inboxes);
        let mut request = format!("PUB {subject} {inbox} {}\r\n", payload.len()).into_bytes();
        request.extend_from_slice(payload);
        request.extend_from_slice(b"\r\n");
        self.send(&request);
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                read => assert!(read.unwrap() > 0, "the server has closed the connection"),
            }
            let mut words = line.split_whitespace();
            match words.next() {
                Some("MSG") => {
                    let length: usize = words.next_back().unwrap().parse().unwrap();
                    let mut body = vec![0; length + 2];
                    self.stream.read_exact(&mut body).unwrap();
                    if line.split_whitespace().nth(1) == Some(&inbox) {
                        return serde_json::from_slice(&body[..length]).ok();
                    }
                }
                Some("PING") => self.send(b"PONG\r\n"),
                Some("-ERR") => panic!("{line}"),
                _ => {}
            }
        }
    }

    fn publish(&mut self, number: u64) -> u64 {
        let ack = self.ask("readings.x", payload(number).as_bytes()).unwrap();
        ack["seq"].as_u64().unwrap_or_else(|| panic!("{ack}"))
    }

    fn create_stream(&mut self) {
        let config = json!({ "name": "READINGS", "subjects": ["readings.>"], "storage": "file", "allow_direct": true });
        let answer = self.ask("$JS.API.STREAM.CREATE.READINGS", config.to_string().as_bytes()).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// Messages in the stream, and the last one's sequence; nothing if the stream itself is gone.
    fn state(&mut self) -> (u64, u64) {
        let info = self.ask("$JS.API.STREAM.INFO.READINGS", b"").unwrap();
        if info["error"]["code"] == 404 {
            return (0, 0);
        }
        let number = |key: &str| info["state"][key].as_u64().unwrap_or_else(|| panic!("{info}"));
        (number("messages"), number("last_seq"))
    }

    fn assert_has(&mut self, sequence: u64, number: u64) {
        let body = json!({ "seq": sequence }).to_string();
        let found = self.ask("$JS.API.STREAM.MSG.GET.READINGS", body.as_bytes()).unwrap();
        let data = found["message"]["data"].as_str().unwrap_or_else(|| panic!("{sequence}: {found}"));
        assert_eq!(data, base64(payload(number).as_bytes()));
    }
}

/// Its length differs, so that blocks of the disk end anywhere in a message.
fn payload(number: u64) -> String {
    format!("{number} ").repeat(1 + (number as usize * 37) % 500)
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let is_there = digit <= three.len();
            text.push(if is_there { DIGITS[(bits >> (18 - 6 * digit)) as usize & 63] as char } else { '=' });
        }
    }
    text
}

/// Publishes `numbers` and returns the sequences that acknowledged them; then `fail`s and kills the server with more on
/// their way.
fn publish_and_die(mut server: Server, numbers: Range<u64>, fail: impl FnOnce()) -> Vec<(u64, u64)> {
    let acked = numbers.clone().map(|number| (server.publish(number), number)).collect();
    for number in numbers.end..numbers.end + 50 {
        let text = payload(number);
        let _ = server.stream.get_mut().write_all(format!("PUB readings.y {}\r\n{text}\r\n", text.len()).as_bytes());
    }
    fail();
    server.process.kill();
    acked
}

#[test]
fn acknowledged_messages_survive_cuts_if_the_server_syncs_always() {
    for (names, survive) in [
        (Names::AtOnce, Survive::None),
        (Names::AtOnce, Survive::Random(1)),
        (Names::Strict, Survive::None),
        (Names::Strict, Survive::Random(2)),
    ] {
        // So that cuts come while a sync is under way.
        let options = Options { names, survive, sync_takes: Duration::from_millis(10), ..Options::default() };
        let Some(mut bench) = Bench::mount(options) else { return };
        let dir = bench.at().parent().unwrap().to_owned();
        let mut acked = Vec::new();
        let mut dropped = 0;
        for round in 0..3_u64 {
            let mut server = Server::start(&dir, Some("always"));
            if round == 0 {
                server.create_stream();
            }
            let fail = || {
                until("a write", || (bench.disk().unsynced_files() > 0).then_some(()));
                bench.disk().power_off();
            };
            acked.extend(publish_and_die(server, round * 1000..round * 1000 + 100, fail));
            dropped += bench.cut().bytes;
            bench.remount(options);
        }
        let mut server = Server::start(&dir, Some("always"));
        let (messages, last) = server.state();
        assert_eq!(messages, last, "{options:?}: a hole");
        for (sequence, number) in &acked {
            server.assert_has(*sequence, *number);
        }
        assert!(dropped > 0, "no cut met anything that was not synced");
        eprintln!("{options:?}: {} acknowledged, {messages} found, {dropped} bytes dropped", acked.len());
    }
}

/// The layer can fail a store: by default the server syncs every two minutes.
#[test]
fn acknowledged_messages_are_lost_by_the_default_interval() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    let dir = bench.at().parent().unwrap().to_owned();
    let mut server = Server::start(&dir, None);
    server.create_stream();
    let acked = publish_and_die(server, 0..200, || bench.disk().power_off());
    assert_eq!(acked.last().unwrap().0, 200);
    bench.cut();
    bench.remount(Options::default());
    let (messages, _) = Server::start(&dir, None).state();
    assert!(messages < 200, "{messages} of 200 are there");
    eprintln!("{messages} of 200 acknowledged messages found");
}

/// A SIGKILL alone loses nothing, which is why it is no power cut.
#[test]
fn a_kill_alone_loses_nothing() {
    let Some(bench) = Bench::mount(Options::default()) else { return };
    let dir = bench.at().parent().unwrap().to_owned();
    let mut server = Server::start(&dir, None);
    server.create_stream();
    publish_and_die(server, 0..200, || {});
    let (messages, _) = Server::start(&dir, None).state();
    assert!(messages >= 200, "{messages} of 200 are there");
}

#[test]
fn a_full_disk_refuses_and_goes_on_after() {
    let Some(mut bench) = Bench::mount(Options::default()) else { return };
    let dir = bench.at().parent().unwrap().to_owned();
    let mut server = Server::start(&dir, Some("always"));
    server.create_stream();
    assert_eq!(server.publish(0), 1);
    bench.disk().set_limit(Some(bench.disk().used_bytes() + 10_000));
    let mut acked = 0;
    while let Some(ack) = server.ask("readings.x", &[b'x'; 3000])
        && ack.get("error").is_none()
    {
        acked = ack["seq"].as_u64().unwrap();
    }
    bench.disk().set_limit(None);
    server.process.kill();
    drop(server);
    bench.cut();
    bench.remount(Options::default());
    let mut server = Server::start(&dir, Some("always"));
    let (_, last) = server.state();
    assert!(acked > 0 && last >= acked, "{last} is the last of {acked} acknowledged");
    assert_eq!(server.publish(7), last + 1);
    server.assert_has(1, 0);
    eprintln!("{acked} acknowledged, {last} found");
}
