//! The recipe in `compose/telegraf/`: what its config makes Telegraf write becomes the devices and channels that it promises.

use std::{collections::BTreeSet, path::Path};

use super::{
    series::{readings, series},
    site::{Plan, Site, TOKEN},
    telegraf::Telegraf,
};

fn recipe(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose/telegraf").join(file)).unwrap()
}

/// The quoted values of `key = "…"` in a config.
fn values<'a>(config: &'a str, key: &str) -> Vec<&'a str> {
    let of = |line: &'a str| line.trim().strip_prefix(key)?.trim_start().strip_prefix('=')?.split('"').nth(1);
    config.lines().filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_lines_become_the_devices_and_channels_that_it_promises() {
    let site = Site::start(Plan { capture_only: true, ..Plan::default() }).await;
    let mut telegraf = Telegraf::new(site.port, TOKEN);
    telegraf.gather(&recipe("wire.txt"));
    telegraf.flush_all().await;
    assert_eq!((telegraf.accepted, telegraf.dropped.len()), (5, 0), "{:?}", telegraf.dropped);
    let stored: Vec<_> =
        readings(&site.gateway.client).await.into_iter().map(|(name, _, value)| (name, value)).collect();
    let expected = [
        ("press-1", "temperature", 79.5),
        ("press-1", "pressure", 182.25),
        ("mixer-2", "voltage", 229.7),
        ("mixer-2", "current", 4.213),
        ("mixer-2", "speed", 1450.0),
        ("mixer-2", "running", 1.0),
        ("meter-3", "modbus.power", 1042.5),
    ];
    assert_eq!(stored, expected.map(|(device, channel, value)| (series(device, channel), value)));
    // The README's table says the same.
    let readme = recipe("README.md");
    for (device, channel, _) in expected {
        let row =
            readme.lines().find(|line| line.starts_with('|') && line.contains(&format!("| `{device}` |"))).unwrap();
        assert!(row.contains(&format!("`{channel}`")), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_precautions_a_batch_is_refused_in_part_and_says_why() {
    // OPC UA without fieldexclude, and an input without a tag that names the device.
    let lines = "press-1,device=press-1,id=ns\\=3;s\\=T temperature=79,Quality=\"OK (0x0)\" 1767571200000000000\n\
                 modbus,name=meter,slave_id=1,type=input_register power=1 1767571200000000000\n";
    let site = Site::start(Plan { capture_only: true, ..Plan::default() }).await;
    let mut telegraf = Telegraf::new(site.port, TOKEN);
    telegraf.gather(lines);
    telegraf.flush_all().await;
    let [(2, said)] = &telegraf.dropped[..] else { panic!("{:?}", telegraf.dropped) };
    assert!(said.contains("line 1") && said.contains("Quality") && said.contains("ignored_keys"), "{said}");
    assert!(said.contains("line 2: no device") && said.contains("line_protocol_device_tags"), "{said}");
    let stored = readings(&site.gateway.client).await;
    assert_eq!(stored, [(series("press-1", "temperature"), 1_767_571_200_000_000_000, 79.0)]);
}

#[test]
fn its_config_and_its_lines_name_the_same_things() {
    let (config, wire) = (recipe("telegraf.conf"), recipe("wire.txt"));
    let named: BTreeSet<&str> = values(&config, "device").into_iter().chain(["press-1"]).collect();
    let devices: BTreeSet<&str> =
        wire.lines().map(|line| line.split("device=").nth(1).unwrap().split(',').next().unwrap()).collect();
    assert!(config.contains("default_tags = { device = \"press-1\" }"));
    assert_eq!(named, devices);
    // Every field of the lines is a node or register of the config.
    for line in wire.lines() {
        let fields = line.rsplit(' ').nth(1).unwrap();
        for field in fields.split(',').map(|field| field.split('=').next().unwrap()) {
            assert!(config.contains(&format!("name = \"{field}\"")), "{field}");
        }
    }
}
