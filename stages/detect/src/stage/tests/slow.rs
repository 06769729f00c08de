//! A joint memory that follows the season.

use super::*;

/// Joint scores by row, of two channels that drift together from row 500 on and jump in the rows of `jump`.
fn joint_scores(memory: &str, jump: std::ops::Range<i64>) -> HashMap<i64, f32> {
    let mut source = Source::new("d", 2, 4_000).with(Event::Add(jump, 1, 6.0));
    for channel in 0..2 {
        source.events.extend((5..40).map(|step| Event::Add(step * 100..4_000, channel, 0.06)));
    }
    let mut manifest = manifest();
    manifest.heads[2].memory = toml::Value::from(memory).try_into().unwrap();
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let mut stage = Detect::with_manifest(config(), &scope, &manifest, DIGEST).unwrap();
    let told = run(&mut stage, &source.items(), 500, memory == "slow");
    told.rows.iter().filter(|row| row.0 == "d/*").map(|row| (row.1 / HOP, f32::from_bits(row.3))).collect()
}

#[test]
fn a_slow_memory_follows_a_drift_and_not_a_jump() {
    let (frozen, slow) = (joint_scores("frozen", 3_900..3_920), joint_scores("slow", 3_900..3_920));
    let median = |scores: &HashMap<i64, f32>| {
        let mut late: Vec<f32> = (3_700..3_900).filter_map(|row| scores.get(&row).copied()).collect();
        late.sort_by(f32::total_cmp);
        late[late.len() / 2]
    };
    assert!(median(&slow) < 0.7 * median(&frozen), "{} {}", median(&slow), median(&frozen));
    let peak = (3_900..3_920).filter_map(|row| slow.get(&row).copied()).fold(0.0, f32::max);
    assert!(peak > 3.0 * median(&slow), "{peak} {}", median(&slow));
}

#[test]
fn a_slow_head_of_one_series_is_refused() {
    let mut manifest = manifest();
    manifest.heads[0].memory = toml::Value::from("slow").try_into().unwrap();
    let scope = Scope { site: "site".into(), shard: 0, shards: 1 };
    let problems = Detect::with_manifest(config(), &scope, &manifest, DIGEST).err().unwrap();
    assert!(problems.join("\n").contains("scope \"device\""), "{problems:?}");
}
