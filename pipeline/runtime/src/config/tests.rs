use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    ratio: f64,
    names: Vec<String>,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[allow(dead_code)]
    period_s: f64,
}

const OWN: &str = "# The stage.\n[detect]\n# A ratio.\nratio = 0.5\nnames = []\nrule = []\n";

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
fn every_problem_is_told_at_once() {
    let file = "[bus]\nulr = \"x\"\n[site]\nshards = \"two\"\n[limits]\npull_messages_max = 0\n[nonsense]\na = 1";
    let problems = check(file, &[("EDDY_BUS_RUL", "x"), ("EDDY_STATE_MAP_SIZE_MB", "big")]).unwrap_err().join("\n");
    for part in [
        "unknown key bus.ulr: did you mean url?",
        "site.shards = \"two\": a integer is taken",
        "limits.pull_messages_max = 0: 1 to 100000 is taken",
        "unknown key nonsense",
        "EDDY_BUS_RUL matches no config key",
        "EDDY_STATE_MAP_SIZE_MB=big: a integer is taken",
    ] {
        assert!(problems.contains(part), "{part:?} is missing in:\n{problems}");
    }
}

#[test]
fn tables_in_a_stages_list_are_checked_too() {
    let problems = check("[[detect.rule]]\nperiod = 1.0", &[]).unwrap_err().join("\n");
    assert!(problems.contains("period_s"), "{problems}");
}

#[test]
fn what_is_printed_can_be_read_back_and_keeps_its_comments() {
    let environment = [("EDDY_SITE_NAME".to_owned(), "plant".to_owned())];
    let text = print("detect", OWN, None, environment).unwrap();
    assert!(text.contains("name = \"plant\"") && text.contains("# A ratio."), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("printed.toml");
    std::fs::write(&path, text).unwrap();
    let (common, _) = load::<Own>("detect", OWN, Some(&path), []).unwrap();
    assert_eq!(common.site.name, "plant");
}
