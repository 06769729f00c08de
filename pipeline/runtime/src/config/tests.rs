use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    ratio: f64,
    names: Vec<String>,
    #[serde(default)]
    rule: Vec<Rule>,
    units: BTreeMap<String, String>,
    window: Window,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Window {
    rows_max: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    period_s: f64,
}

const OWN: &str = "# The stage.\n[detect]\n# A ratio.\nratio = 0.5\nnames = [\n  # none\n]\nrule = []\n\
    [detect.units]\n[detect.window]\nrows_max = 9 # rows\n";

fn check(file: &str, environment: &[(&str, &str)]) -> Result<(CommonConfig, Own), Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eddy.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load("detect", OWN, Some(&path), environment).map_err(|error| error.problems)
}

#[test]
fn defaults_file_and_environment_in_that_order() {
    let (common, own) = check("", &[]).unwrap();
    assert_eq!((common.site.name.as_str(), own.ratio, own.names.len()), ("site", 0.5, 0));
    let file = "[site]\nname = \"plant\"\n[detect]\nratio = 2\n[[detect.rule]]\nperiod_s = 1.0\n[capture]\nx = 1";
    let (common, own) =
        check(file, &[("EDDY_DETECT_NAMES", "[\"a\"]"), ("EDDY_SITE_NAME", "7"), ("HOME", "/")]).unwrap();
    assert_eq!((common.site.name.as_str(), own.ratio, own.names, own.rule.len()), ("7", 2.0, vec!["a".to_owned()], 1));
    assert!(check("", &[("EDDY_CAPTURE_TIME_UNIT", "s"), ("EDDY_CONFIG", "x")]).is_ok());
}

#[test]
fn tables_within_a_table_and_tables_with_free_keys() {
    let file = "[detect.units]\n\"a b\" = \"ms\"\n[detect.window]\nrows_max = 3";
    let (_, own) = check(file, &[]).unwrap();
    assert_eq!((own.units["a b"].as_str(), own.window.rows_max), ("ms", 3));
    let (_, own) = check(file, &[("EDDY_DETECT_WINDOW_ROWS_MAX", "4"), ("EDDY_DETECT_UNITS", "{ c = 's' }")]).unwrap();
    assert_eq!((own.units["c"].as_str(), own.units.len(), own.window.rows_max), ("s", 1, 4));
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let file = "[bus]\nulr = \"x\"\n[site]\nshards = \"two\"\nshard = -1\n[limits]\npull_messages_max = 0\n\
        [telemetry]\nlog_format = \"xml\"\n[nonsense]\na = 1\n[detect]\nunits = 5\n[detect.window]\nrows_max = -2";
    let environment = [
        ("EDDY_BUS_RUL", "x"),
        ("EDDY_STATE_MAP_SIZE_MB", "big"),
        ("EDDY_TELEMETRY_LOG", "eddy=loud"),
        ("EDDY_DETECT_RULE", "[{ period = 1 }]"),
    ];
    let problems = check(file, &environment).unwrap_err();
    let text = problems.join("\n");
    for part in [
        "eddy.toml:2: unknown key bus.ulr: did you mean url?",
        "eddy.toml:4: site.shards = \"two\": an integer is taken, like the default 1",
        "eddy.toml:5: site.shard = -1: ",
        "eddy.toml:7: limits.pull_messages_max = 0: 1 to 100000 is taken",
        "eddy.toml:9: telemetry.log_format = \"xml\": unknown variant `xml`",
        "eddy.toml:10: unknown key nonsense",
        "eddy.toml:13: detect.units = 5: a table is taken",
        "eddy.toml:15: detect.window.rows_max = -2: ",
        "EDDY_BUS_RUL matches no config key: did you mean EDDY_BUS_URL?",
        "EDDY_STATE_MAP_SIZE_MB=big: an integer is taken",
        "EDDY_TELEMETRY_LOG: telemetry.log = \"eddy=loud\": ",
        "EDDY_DETECT_RULE: detect.rule = [{ period = 1 }]: unknown field `period`",
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert_eq!(problems.len(), 12, "{text}");
}

#[test]
fn a_connection_that_cannot_be_is_told_by_the_table_it_stands_in() {
    let (common, _) = check("", &[]).unwrap();
    let good =
        |prefix: &str| super::BusConfig { inbox_prefix: prefix.into(), ..common.bus.clone() }.problems("sync.hub");
    assert_eq!(good("_INBOX.plant%201"), Vec::<String>::new());
    for prefix in ["_INBOX.", "_INBOX.>", "a b", ".x"] {
        assert!(good(prefix).join("").starts_with("sync.hub.inbox_prefix = "), "{prefix:?}");
    }
    let half = super::BusConfig { tls_key_file: "x".into(), request_timeout_ms: 1, ..common.bus.clone() };
    let problems = half.problems("sync.hub");
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[1].contains("sync.hub.tls_cert_file and sync.hub.tls_key_file"), "{problems:?}");
}

#[test]
fn the_shared_defaults_are_good_and_every_key_has_a_variable_of_its_own() {
    let (common, _) = check("", &[]).unwrap();
    assert_eq!(common.problems(), Vec::<String>::new());
    let tables: Table = DEFAULTS.parse().unwrap();
    let keys_of = |keys: &Value| keys.as_table().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut names: Vec<String> = Vec::new();
    for (table, keys) in &tables {
        names.extend(keys_of(keys).iter().map(|key| format!("{table}_{key}")));
    }
    let keys = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), keys);
}

#[test]
fn what_is_printed_is_the_effective_config_with_its_comments() {
    let folder = tempfile::tempdir().unwrap();
    let (given, printed) = (folder.path().join("eddy.toml"), folder.path().join("printed.toml"));
    let file = "[detect]\nratio = 1\nnames = [\"a\", \"b\"]\n[[detect.rule]]\nperiod_s = 2.5\n\
        [detect.units]\n\"a b\" = \"ms\"\n[detect.window]\nrows_max = 3\n\
        [site]\nname = \"elsewhere\"\n";
    std::fs::write(&given, file).unwrap();
    let environment = [("EDDY_SITE_NAME".to_owned(), "plant \"7\"".to_owned())];
    let text = print("detect", OWN, Some(&given), environment).unwrap();
    for line in [
        "name = 'plant \"7\"'  # EDDY_SITE_NAME; default \"site\"",
        "# A ratio.\nratio = 1.0  # ",
        "names = [\"a\", \"b\"]\n",
        "rows_max = 3 # rows\n",
    ] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
    std::fs::write(&printed, &text).unwrap();
    let (common, own) = load::<Own>("detect", OWN, Some(&printed), []).unwrap();
    assert_eq!((common.site.name.as_str(), own.ratio, own.names.len()), ("plant \"7\"", 1.0, 2));
    assert_eq!((own.rule[0].period_s, own.units["a b"].as_str(), own.window.rows_max), (2.5, "ms", 3));
}

#[test]
fn without_changes_the_defaults_are_printed_as_they_are() {
    assert_eq!(print("detect", OWN, None, []).unwrap(), format!("{DEFAULTS}\n{OWN}"));
}
