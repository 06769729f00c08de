//! MQTT beyond a single message: the session that outlives capture, TLS and credentials, refusals, topics, retained messages.

use std::path::Path;

use eddy_schemas::side::Reason;

use super::{
    brokers::{Mosquitto, OPEN, nats_mqtt, publish, publisher},
    clients::{program, run, run_with_input, tool},
    series::{CHANNEL, readings, series, wait_for_readings},
    site::{Plan, Site, free_port},
};
use crate::oracle::dead_letters;

fn mqtt(port: u16, more: &str) -> String {
    format!("[capture.mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"sensors/{{device}}\"]\n{more}\n")
}

async fn capture_only(config: &str) -> Site {
    Site::start(Plan { capture_only: true, config, ..Plan::default() }).await
}

/// The times of a device's readings, in the order of READINGS.
async fn times(site: &Site, device: &str) -> Vec<i64> {
    let name = series(device, CHANNEL);
    readings(&site.gateway.client).await.into_iter().filter(|(of, ..)| *of == name).map(|(_, time, _)| time).collect()
}

/// Publishes one message.
async fn say(port: u16, topic: &str, more: &[&str], payload: &str) {
    run(publisher(port, topic).unwrap().args(more).args(["-m", payload])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_capture_is_away_comes_after_its_return() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut broker) = Mosquitto::start(folder.path(), OPEN) else { return };
    let mut site = capture_only(&mqtt(broker.port, "")).await;
    site.wait_until_logged("subscribed").await;
    publish(broker.port, "d", 0..10).await;
    wait_for_readings(&mut site.gateway, "d", 10).await;
    // Stopped as asked, and 3,000 messages later (Mosquitto's own default keeps 1,000) started again; the broker too.
    assert!(site.capture().stop().success());
    publish(broker.port, "d", 10..3_010).await;
    broker.restart();
    site.capture().restart();
    wait_for_readings(&mut site.gateway, "d", 3_010).await;
    // In order; what had no PUBACK when capture or the broker stopped may have come again.
    let (stored, mut newest) = (times(&site, "d").await, None);
    for (at, time) in stored.iter().enumerate() {
        let known = stored[..at].contains(time);
        assert!(known || Some(*time) > newest, "reading {at} of {} is of {time}, after {newest:?}", stored.len());
        newest = newest.max(Some(*time));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_message_is_no_reading_but_what_is_published_retained_is() {
    if tool("mosquitto_pub").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(folder.path(), OPEN) else { return };
    let nats_port = free_port();
    for (port, server) in [(broker.port, String::new()), (nats_port, nats_mqtt(nats_port))] {
        let topics = "topics = [\"plant/{device}/{channel}\"]";
        let config = mqtt(port, "").replace("topics = [\"sensors/{device}\"]", topics);
        let plan = Plan { capture_only: true, config: &config, server: &server, ..Plan::default() };
        let mut site = Site::start(plan).await;
        site.wait_until_logged("subscribed").await;
        say(port, "plant/d/t", &["-r"], "1").await;
        wait_for_readings(&mut site.gateway, "d", 1).await;
        site.capture().stop();
        say(port, "plant/d/t", &["-r"], "2").await;
        say(port, "plant/d/t", &[], "3").await;
        site.capture().restart();
        wait_for_readings(&mut site.gateway, "d", 3).await;
        // And once more: the broker sends its retained message to every new connection.
        site.capture().stop();
        site.capture().restart();
        say(port, "plant/d/t", &[], "4").await;
        wait_for_readings(&mut site.gateway, "d", 4).await;
        let values: Vec<f64> = readings(&site.gateway.client).await.iter().map(|(.., value)| *value).collect();
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0], "broker on {port}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_name_devices_and_channels_and_what_is_wrong_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let Some(broker) = Mosquitto::start(folder.path(), OPEN) else { return };
    let topics = r#"topics = ["plant/{device}/{channel...}", "zigbee/{device}", "raw/#"]"#;
    let config = mqtt(broker.port, "").replace("topics = [\"sensors/{device}\"]", topics);
    let mut site = capture_only(&config).await;
    site.wait_until_logged("subscribed").await;
    let port = broker.port;
    say(port, "plant/pump 7/motor/temp", &[], "21.5").await;
    say(port, "plant/a.b/x", &[], r#"{"time":1767571200,"value":2}"#).await;
    say(port, "plant/a.b/x", &[], r#"{"time":1767571201,"rms":3}"#).await;
    say(port, "zigbee/0x01", &[], r#"{"temperature":4,"humidity":5}"#).await;
    say(port, "zigbee/0x01", &[], r#"[{"n":"co2","v":6}]"#).await;
    say(port, "raw/concentrator", &[], "t,device=far value=7 1767571200000000000").await;
    // Neither is anybody told, nor does it come again and again: it is in the dead letters.
    say(port, "raw/nobody", &[], "8").await;
    say(port, "zigbee/0x01", &[], r#"{"temperature":"warm"}"#).await;
    say(port, "zigbee/0x01", &[], "{ no JSON").await;
    say(port, "zigbee/last", &[], "9").await;
    wait_for_readings(&mut site.gateway, "last", 1).await;
    let mut found: Vec<_> =
        readings(&site.gateway.client).await.into_iter().map(|(name, _, value)| (name, value)).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    let expected = [
        ("a.b", "x", 2.0),
        ("a.b", "x.rms", 3.0),
        ("0x01", "temperature", 4.0),
        ("0x01", "humidity", 5.0),
        ("0x01", "co2", 6.0),
        ("far", "t", 7.0),
        ("last", "value", 9.0),
        ("pump 7", "motor.temp", 21.5),
    ];
    assert_eq!(found, expected.map(|(device, channel, value)| (series(device, channel), value)));
    let letters = dead_letters(&site.gateway.client).await;
    let reasons: Vec<Reason> = letters.iter().map(|letter| letter.rejection.reason).collect();
    assert_eq!(reasons, [Reason::InvalidField, Reason::InvalidField, Reason::Malformed], "{letters:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_is_refused_is_said() {
    // Mosquitto's own ACL file lets everybody subscribe and then sends nothing; nats-server refuses.
    let port = free_port();
    let server = nats_mqtt(port)
        + "authorization { users = [\n\
           {user: stage, password: stage}\n\
           {user: narrow, password: narrow, permissions: {publish: \">\", subscribe: {deny: \"sensors.>\"}}}\n\
           ] }\nno_auth_user: stage\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "narrow\n").unwrap();
    let password = folder.path().join("password").display().to_string();
    let config = mqtt(port, &format!("username = \"narrow\"\npassword_file = {password:?}"));
    let plan = Plan { capture_only: true, config: &config, server: &server, ..Plan::default() };
    let mut site = Site::start(plan).await;
    site.wait_until_logged("the broker refuses the subscription: check its permissions").await;
    assert!(site.capture().log().contains("sensors/+"), "{}", site.capture().log());
    // The other sources go on.
    assert_eq!(site.post("/ingest?device=d", "application/json", "{\"t\":1}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_a_client_certificate_and_a_password() {
    let (Some(openssl), Some(passwd)) = (tool("openssl"), tool("mosquitto_passwd")) else { return };
    let folder = tempfile::tempdir().unwrap();
    certificates(&openssl, folder.path()).await;
    let file = |name: &str| folder.path().join(name).display().to_string();
    run(program(&passwd).args(["-b", "-c", &file("users"), "eddy", "pass word"])).await;
    let config = format!(
        "allow_anonymous false\npassword_file {}\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
        file("users"),
        file("ca.pem"),
        file("broker.pem"),
        file("broker.key")
    );
    let Some(broker) = Mosquitto::start(folder.path(), &config) else { return };
    std::fs::write(file("password"), "pass word\n").unwrap();
    let mqtt = |username: &str| {
        format!(
            "[capture.mqtt]\nurl = \"mqtts://localhost:{}\"\ntopics = [\"sensors/{{device}}\"]\nusername = {username:?}\n\
             password_file = {:?}\ntls_ca_file = {:?}\ntls_cert_file = {:?}\ntls_key_file = {:?}\n",
            broker.port,
            file("password"),
            file("ca.pem"),
            file("client.pem"),
            file("client.key")
        )
    };
    let mut site = capture_only(&mqtt("eddy")).await;
    site.wait_until_logged("subscribed").await;
    let mut publisher = publisher(broker.port, "sensors/d").unwrap();
    publisher.args(["-h", "localhost", "--cafile", &file("ca.pem"), "--cert", &file("client.pem")]);
    publisher.args(["--key", &file("client.key"), "-u", "eddy", "-P", "pass word", "-l"]);
    run_with_input(&mut publisher, "1\n2\n3\n").await;
    wait_for_readings(&mut site.gateway, "d", 3).await;
    // A wrong user: said, and tried again, while the other sources go on.
    site.capture().stop();
    let config = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), config.replace("username = \"eddy\"", "username = \"nobody\"")).unwrap();
    site.capture().restart();
    site.wait_until_logged("the MQTT connection ended; connecting again").await;
    assert_eq!(site.post("/ingest?device=d", "application/json", "{\"t\":1}").await.status, 200);
}

/// An authority, and certificates of a broker called localhost and of a client.
async fn certificates(openssl: &Path, folder: &Path) {
    let run_in = async |arguments: &[&str]| {
        run(program(openssl).current_dir(folder).args(arguments)).await;
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    run_in(&[&authority[..], &key].concat()).await;
    for (name, kind) in [("broker", "serverAuth"), ("client", "clientAuth")] {
        let extensions = format!("subjectAltName=DNS:localhost\nextendedKeyUsage={kind}\n");
        std::fs::write(folder.join(format!("{name}.ext")), extensions).unwrap();
        let (secret, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let asking = ["req", "-subj", &format!("/CN={name}"), "-keyout", &secret, "-out", &request];
        run_in(&[&asking[..], &key].concat()).await;
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"];
        let extensions = format!("{name}.ext");
        let signing = ["x509", "-req", "-in", &request, "-out", &certificate, "-extfile", &extensions];
        run_in(&[&signing[..], &by].concat()).await;
    }
}
