//! What an operator called normal while it was going on, and what comes on top of it.

use super::*;

/// The rows of the source's slow wave: so many later it looks alike.
const WAVE: i64 = 96;

/// Vectors of a channel of device `d` that are held of its episode: per window one of each head.
fn held(stage: &Detect, channel: usize) -> Vec<Vec<Vec<f32>>> {
    let judge = stage.panel.active();
    let slot = judge.registry.device("d").unwrap();
    let device = judge.registry.get(slot);
    let plan = &judge.plan;
    let heads: Vec<usize> = plan.series[..plan.every].iter().map(|head| plan.heads[*head].dimensions).collect();
    let window = |bytes: &[u8]| {
        let mut at = 0;
        let vector = |dimensions: &usize| {
            let mut vector = vec![0.0; *dimensions];
            delay::unpack(&bytes[at..], &mut vector);
            at += delay::packed_bytes(*dimensions);
            vector
        };
        heads.iter().map(vector).collect()
    };
    let bytes = crate::series::held_bytes(plan, heads.len());
    device.channels[channel].held.chunks_exact(bytes).map(window).collect()
}

/// How far a channel's memory lies from windows: the farthest head of each.
fn farthest(stage: &Detect, channel: usize, windows: &[Vec<Vec<f32>>]) -> Vec<f32> {
    let registry = &stage.panel.active().registry;
    let slot = registry.device("d").unwrap();
    let heads = &registry.get(slot).channels[channel].heads;
    let of_window = |window: &Vec<Vec<f32>>| {
        let distances = window.iter().zip(heads).map(|(vector, head)| head.history.nearest(vector).unwrap());
        distances.fold(0.0, f32::max)
    };
    windows.iter().map(of_window).collect()
}

#[test]
fn something_worse_on_top_of_what_is_forgiven_alerts_and_only_what_is_forgiven_is_learned() {
    let shift = Event::Add(600..660, 0, 6.0);
    let worse = |at: i64| Event::Add(at..at + 4, 1, 40.0);
    let alert = told(&Source::new("d", 2, 605).with(shift.clone())).events()[0].data.alert.clone();
    let normal = ControlKind::Label { device: "d".into(), alert, label: "normal".into() };
    let source = Source::new("d", 2, 1_500)
        .with(shift)
        .with(Event::Say(625, normal))
        .with(worse(640))
        .with(worse(640 + 8 * WAVE));
    let mut items = source.items();
    let mut take_until = |row: i64| {
        let is_later = |item: &Item| matches!(item, Item::Row { time, .. } if *time >= row * HOP);
        let later = items.split_off(items.iter().position(is_later).unwrap_or(items.len()));
        std::mem::replace(&mut items, later)
    };
    let mut stage = detect();
    let begun = run(&mut stage, &take_until(640), 500, false).phases();
    assert_eq!((begun.first(), begun.last()), (Some(&(Phase::Opened, 600)), Some(&(Phase::Closed, 624))), "{begun:?}");
    // What came after the label, which admitted what was held until then.
    let forgiven = held(&stage, 0);
    let unknown = farthest(&stage, 0, &forgiven);
    assert!(forgiven.len() > 1 && unknown.iter().all(|distance| *distance > 5.0), "{unknown:?}");
    let on_top = run(&mut stage, &take_until(650), 500, false).phases();
    assert_eq!(on_top, [(Phase::Opened, 642)]);
    // A memory within its budget merges some of them.
    let known = farthest(&stage, 0, &forgiven).into_iter().filter(|distance| *distance < 0.01).count();
    assert!(2 * known >= forgiven.len(), "{known} of {}", forgiven.len());
    let worse = held(&stage, 1);
    let unknown = farthest(&stage, 1, &worse);
    assert!(!worse.is_empty() && unknown.iter().all(|distance| *distance > 35.0), "{unknown:?}");
    let later = run(&mut stage, &take_until(i64::MAX / HOP), 500, false);
    assert_eq!(later.opened(), [1_409], "it alerts when it comes again");
}
