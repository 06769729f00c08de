use eddy_schemas::alert::{Alert, Share};

use super::*;

const SECOND: Timestamp = 1_000_000_000;

fn event(id: &str, device: &str, severity: Severity, phase: Phase) -> CloudEvent {
    let share = |name: &str, share| Share { name: name.into(), share };
    let alert = Alert {
        alert: id.into(),
        phase,
        severity,
        site: "s".into(),
        device: device.into(),
        opened: "2026-01-01T00:00:00Z".into(),
        score: 2.0,
        tail: 1e-6,
        threshold: 1e-4,
        tail_min: 1e-6,
        channels: vec![share("flow", 0.7), share("t", 0.3)],
        heads: vec![share("value", 1.0)],
        bundle: "new".into(),
    };
    CloudEvent::new(alert, 0, "2026-01-01T00:05:00Z".into())
}

fn at(seconds: Timestamp) -> Place {
    Place { sequence: 7, stored_at: seconds * SECOND }
}

fn control(kind: ControlKind, time: Timestamp) -> Control {
    Control { id: format!("c{time}"), origin: "cli".into(), time, kind }
}

fn label(alert: &str, label: &str, time: Timestamp) -> Control {
    control(ControlKind::Label { device: "p".into(), alert: alert.into(), label: label.into() }, time)
}

fn acknowledge(alert: &str, by: &str) -> Control {
    let kind = ControlKind::Acknowledge { device: "p".into(), alert: alert.into() };
    Control { origin: format!("console/{by}"), ..control(kind, 1) }
}

fn board(events: &[(&str, &str, Severity, Phase)]) -> Board {
    let mut board = Board::default();
    for (n, (id, device, severity, phase)) in events.iter().enumerate() {
        board.alert(event(id, device, *severity, *phase), at(n as Timestamp));
    }
    board
}

#[test]
fn alerts_of_one_device_and_cause_are_one_incident() {
    use Severity::{Critical, Major, Minor};
    let mut board = board(&[
        ("a", "p", Major, Phase::Opened),
        ("b", "p", Minor, Phase::Opened),
        ("c", "q", Critical, Phase::Opened),
        ("a", "p", Major, Phase::Closed),
    ]);
    let shown = board.show(0);
    let causes: Vec<_> = shown.incidents.iter().map(|i| (i.device.as_str(), i.cause.as_str(), i.open)).collect();
    assert_eq!(causes, [("q", "flow", 1), ("p", "flow", 1)]);
    assert_eq!(shown.incidents[1].severity, Minor, "the open one's: the other is over");
    assert_eq!((shown.open, shown.unseen, shown.held), (2, 2, 3));
    // A name for one of them takes it to an incident of its own.
    board.control(label("b", "bearing", 5), Timestamp::MAX);
    let shown = board.show(0);
    let causes: Vec<_> = shown.incidents.iter().map(|i| (i.cause.as_str(), i.alerts.len())).collect();
    assert_eq!(causes, [("flow", 1), ("bearing", 1), ("flow", 1)]);
}

#[test]
fn a_word_may_come_before_its_alert_and_the_later_one_holds() {
    let mut board = Board::default();
    board.control(label("a", "bearing", 9), Timestamp::MAX);
    board.control(label("a", "seal", 4), Timestamp::MAX);
    board.control(acknowledge("a", "alice"), Timestamp::MAX);
    board.alert(event("a", "p", Severity::Major, Phase::Opened), at(0));
    let shown = board.show(0);
    let alert = &shown.incidents[0].alerts[0];
    assert_eq!(alert.label.as_ref().map(|said| said.what.as_str()), Some("bearing"));
    assert_eq!(alert.acknowledged.as_ref().map(|said| said.by.as_str()), Some("alice"));
    assert_eq!((shown.open, shown.unseen), (1, 0));
}

#[test]
fn a_clock_that_runs_ahead_has_no_last_word() {
    let mut board = board(&[("a", "p", Severity::Major, Phase::Opened)]);
    board.control(label("a", "seal", Timestamp::MAX), 10);
    board.control(label("a", "bearing", 11), 12);
    let said = board.show(0).incidents[0].alerts[0].label.clone().unwrap();
    assert_eq!((said.what.as_str(), said.time), ("bearing", 11));
}

#[test]
fn a_new_alert_of_an_acknowledged_incident_is_unseen_again() {
    let mut board = board(&[("a", "p", Severity::Major, Phase::Opened)]);
    board.control(acknowledge("a", "alice"), Timestamp::MAX);
    assert_eq!(board.show(0).unseen, 0);
    board.alert(event("b", "p", Severity::Major, Phase::Opened), at(1));
    let shown = board.show(0);
    assert_eq!((shown.incidents.len(), shown.incidents[0].unseen, shown.unseen), (1, 1, 1));
}

#[test]
fn maintenance_hides_the_open_alerts_of_its_device_and_says_how_many() {
    let mut board = board(&[
        ("a", "p", Severity::Critical, Phase::Opened),
        ("b", "q", Severity::Minor, Phase::Opened),
        ("c", "p", Severity::Minor, Phase::Closed),
    ]);
    let maintain = |on, until| ControlKind::Maintenance { device: "p".into(), on, until };
    board.control(control(maintain(true, Some(60 * SECOND)), 1), Timestamp::MAX);
    let shown = board.show(0);
    assert_eq!(shown.suppressed.get(&Suppression::Maintenance), Some(&1));
    assert_eq!((shown.open, shown.incidents[0].device.as_str()), (1, "q"));
    assert_eq!(board.show(60 * SECOND).open, 2, "it is over by itself");
    board.control(control(maintain(true, None), 2), Timestamp::MAX);
    assert_eq!(board.show(Timestamp::MAX).open, 1);
    board.control(control(maintain(false, None), 3), Timestamp::MAX);
    assert_eq!(board.show(0).open, 2);
}

#[test]
fn a_switch_hides_what_its_bundle_tells_at_once_but_nothing_critical() {
    let state = |digest: &str, phase| State {
        wish: 1,
        digest: digest.into(),
        phase,
        reason: String::new(),
        time: 100 * SECOND,
    };
    let mut board = Board::default();
    board.rollout(&state("old", models::Phase::Active));
    board.rollout(&state("new", models::Phase::Shadow));
    let alerts = |board: &mut Board| {
        board.alert(event("before", "p", Severity::Minor, Phase::Opened), at(99));
        board.alert(event("minor", "q", Severity::Major, Phase::Opened), at(101));
        board.alert(event("critical", "r", Severity::Critical, Phase::Opened), at(102));
        board.alert(event("later", "s", Severity::Minor, Phase::Opened), at(100 + SETTLE_NS / SECOND));
    };
    alerts(&mut board);
    assert_eq!(board.show(0).open, 4, "in the shadow nothing is told");
    board.rollout(&state("new", models::Phase::Active));
    let shown = board.show(0);
    assert_eq!((shown.open, shown.suppressed.get(&Suppression::Rollout)), (3, Some(&1)));
    assert_eq!(shown.incidents.last().map(|incident| incident.device.as_str()), Some("q"));
}

#[test]
fn what_is_held_is_bounded_and_open_alerts_stay() {
    let mut board = board(&[("open", "p", Severity::Minor, Phase::Opened)]);
    for n in 0..2 * ALERTS_MAX {
        let id = format!("{n}");
        board.alert(event(&id, "q", Severity::Minor, Phase::Opened), at(n as Timestamp));
        board.alert(event(&id, "q", Severity::Minor, Phase::Closed), at(n as Timestamp));
        board.control(label(&format!("x{n}"), "normal", n as Timestamp), Timestamp::MAX);
    }
    let shown = board.show(0);
    assert_eq!((shown.held, shown.open), (ALERTS_MAX, 1));
    assert_eq!(shown.incidents[0].device, "p");
    assert_eq!(shown.incidents[1].alerts.len(), SHOWN_MAX);
    assert!(board.labels.len() <= WORDS_MAX);
}
