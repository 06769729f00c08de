use std::sync::Arc;

use eddy_schemas::alert::Severity;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    style::{Color, Modifier},
};

use super::*;
use crate::{
    top::{picture, sample},
    watch::view::{AlertView, Said, View},
};

const PLAIN: Look = Look { colour: false };

fn state(view: View, pane: Pane) -> State {
    let mut state = State::new("alice", pane, "");
    state.take(Arc::new(view));
    state
}

fn press(state: &mut State, keys: &str) {
    for letter in keys.chars() {
        let code = if letter == '\n' { KeyCode::Enter } else { KeyCode::Char(letter) };
        state.key(KeyEvent::new(code, KeyModifiers::NONE));
    }
}

fn drawn(state: &mut State, (columns, rows): (u16, u16), look: Look) -> Buffer {
    state.size = (columns, rows);
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| draw(state, look, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn shown(state: &mut State, size: (u16, u16)) -> String {
    picture::text(&drawn(state, size, PLAIN)).join("\n")
}

/// Every one of them stands on the screen.
#[track_caller]
fn has(screen: &str, parts: &[&str]) {
    for part in parts {
        assert!(screen.contains(part), "{part:?} is missing:\n{screen}");
    }
}

#[test]
fn the_overview_says_how_everything_is_at_80x24() {
    let screen = shown(&mut state(sample::view(), Pane::Overview), (80, 24));
    has(
        &screen,
        &[
            "eddy plant  2 open, 1 unseen  1 hidden: 1 maintenance",
            "22:40:00Z",
            "[1 Overview]",
            "batch p50/99 ms age p50/99 ms   memory",
            "embed         ‼ unwell      1,204      17         1.2/3.1        2.2/48  42.0 MB",
            "‼ streams fullest READINGS 96%, SAMPLES 12%, SIDE 5%",
            "! region  no link; 810 lost; waiting 2 alerts (1500 B), 150 deltas (1500 B)",
            "disk    38.2 GB of 80.0 GB free, full in 12d",
            "index   3,591 windows of 36 series, 120 in memory, 2400.0 kB",
            "bundle  5f0c3a9e1b2d judges",
            "rollout 77aa3a9e1b2d shadow: 12 of 36 series are warm",
            "! aside   3 refused at capture, 9 late at capture",
            "! devices 1 condition: pump 2/flow stuck",
            "  at work 1 under maintenance: press until 01-20 23:40",
            "▸ ‼ critical pump 1",
            "nobody",
            "! major    market",
            "? help  q quit  / filter  a acknowledge  l label  m maintenance  s hidden",
        ],
    );
    assert_eq!(screen.lines().count(), 24);
}

#[test]
fn where_there_is_no_room_for_everything_what_is_well_goes() {
    let mut view = sample::view();
    view.trouble = Some("DETECTIONS: timed out".into());
    view.stages.extend_from_within(..4);
    let screen = shown(&mut state(view, Pane::Overview), (80, 24));
    has(
        &screen,
        &["‼ trouble", "‼ streams", "! region", "! aside", "! devices", "▸ ‼ critical pump 1", "! major    market"],
    );
    assert!(!screen.contains("  bundle ") && !screen.contains("  at work "), "{screen}");
}

#[test]
fn the_alerts_pane_shows_all_of_the_chosen_one_at_80x24() {
    let mut state = state(sample::view(), Pane::Alerts);
    has(&shown(&mut state, (80, 24)), &["curves    being read …"]);
    state.curves.take((("aaaa".into(), true), Ok(sample::plots())));
    let screen = shown(&mut state, (80, 24));
    has(
        &screen,
        &[
            "▸ ‼ critical pump 1",
            "open 1",
            "01-20 22:35",
            "· minor    fan",
            "closed",
            "bob",
            "── pump 1, temperature ─",
            " 1 of 2: ← → ──",
            "‼ critical since 01-20 22:35, open, p 6.9e-11 of 1.0e-4",
            "seen      acknowledged by nobody",
            "channels  temperature 72%, humidity 26%",
            "index     new to this device, seen on others (3 of 12); nearest:",
            "window    ▁▂▃▄",
            "temperature, 0.00 to 15.00",
            "d 0.089",
            "market/temperature, bearing, a",
            "unlikely  ",
            "p down to 1.0e-15, opens at 1.0",
            "heads     learned 60%, value 40%; score 4.40",
            "id        aaaa, judged by bundle 5f0c3a9e1b2d",
        ],
    );
    press(&mut state, "j");
    has(
        &shown(&mut state, (80, 24)),
        &["seen      acknowledged by alice, 2026-01-20 22:40:00Z", "index     says nothing"],
    );
    state.curves.take((("bbbb".into(), false), Err("timed out".into())));
    has(&shown(&mut state, (80, 24)), &["curves    cannot be read: timed out"]);
    press(&mut state, "j");
    has(&shown(&mut state, (80, 24)), &["closed 01-20 22:35", "label     bearing (by bob, 2026-01-20 22:40:00Z)"]);
}

#[test]
fn the_stages_pane_has_all_of_it_to_scroll_through() {
    let mut state = state(sample::view(), Pane::Stages);
    has(
        &shown(&mut state, (80, 24)),
        &["‼ embed: nothing moved for 30 s", "READINGS", "‼96%", "3,591", "more lines: j"],
    );
    press(&mut state, "G");
    has(
        &shown(&mut state, (80, 24)),
        &[
            "3 refused at capture: no device",
            "the last: line 2",
            "for the region: 150 deltas (1500 B), 810 lost",
            "the end",
        ],
    );
    has(
        &shown(&mut state, (200, 60)),
        &["pump 2/flow stuck since 2026-01-20 22:40:00Z (4)", "maintenance: press until 01-20 23:40"],
    );
}

#[test]
fn a_small_screen_says_what_matters_and_a_large_one_all() {
    let mut state = state(sample::view(), Pane::Overview);
    let small = shown(&mut state, (40, 12));
    has(
        &small,
        &[
            "2 open, 1 unseen",
            "[1 Overview]",
            "embed unwell",
            "READINGS 96%",
            "▸ ‼ critical pump 1",
            "open 1",
            "? help",
        ],
    );
    state.pane = Pane::Alerts;
    state.curves.take((("aaaa".into(), true), Ok(sample::plots())));
    has(&shown(&mut state, (40, 12)), &["▸ ‼ critical pump 1", "! major    market", "· minor    fan"]);
    press(&mut state, "\n");
    has(&shown(&mut state, (40, 12)), &["── pump 1, temperature", "seen      acknowledged by nobody", "window    ▁"]);
    press(&mut state, "\n");
    let large = shown(&mut state, (200, 60));
    has(&large, &["▸ ‼ critical pump 1", "── pump 1, temperature", "university/temperature, bearing, alert 8e37"]);
    let list = large.lines().find(|line| line.contains("! major    market")).unwrap();
    assert!(list.chars().count() > 110, "beside each other: {list}");
}

#[test]
fn nothing_is_drawn_outside_however_small() {
    for pane in Pane::ALL {
        let mut state = state(sample::view(), pane);
        state.curves.take((("aaaa".into(), true), Ok(sample::plots())));
        for keys in ["", "?", "?/x", "\n", "", "a"] {
            press(&mut state, keys);
            for size in [(0, 0), (1, 1), (1, 30), (300, 1), (2, 2), (3, 3), (20, 4), (39, 13), (130, 15), (80, 3)] {
                let area = Rect::new(0, 0, size.0, size.1);
                state.size = size;
                draw(&state, PLAIN, area, &mut Buffer::empty(area));
            }
        }
    }
    let mut empty = state(View::default(), Pane::Overview);
    has(
        &shown(&mut empty, (80, 24)),
        &["no open alert", "asking …", "no alert yet", "region  none, or sync does not answer"],
    );
}

#[test]
fn hostile_names_stay_within_their_place() {
    let evil = format!("\u{1b}[2J\u{202e}evil\n\t\r泵\u{200b}<b>{}", "x".repeat(500));
    let said = || Some(Said { what: evil.clone(), by: evil.clone(), time: sample::NOW });
    let alert = AlertView {
        known: Some(sample::known(&evil)),
        label: said(),
        acknowledged: said(),
        ..sample::alert("aaaa", &evil, Severity::Critical)
    };
    let mut view = sample::view();
    view.alerts = sample::alerts(vec![sample::incident(&evil, vec![alert])]);
    (view.site, view.url, view.trouble) = (evil.clone(), evil.clone(), Some(evil.clone()));
    view.conditions[0].device = evil.clone();
    view.maintenance.insert(evil.clone(), None);
    view.stages[2].problem = Some(evil.clone());
    if let Some(link) = &mut view.link {
        link.hub = evil.clone();
    }
    for size in [(80, 24), (40, 12), (200, 60)] {
        for pane in Pane::ALL {
            for keys in ["", "a", "l", "m", "?"] {
                let mut state = state(view.clone(), pane);
                state.curves.take((("aaaa".into(), true), Ok(sample::plots())));
                press(&mut state, keys);
                let buffer = drawn(&mut state, size, PLAIN);
                let screen = picture::text(&buffer);
                assert_eq!(screen.len(), usize::from(size.1));
                let all = screen.concat() + &picture::svg(&buffer);
                let is_hostile = |letter: char| letter.is_control() && letter != '\n' || letter == '\u{202e}';
                assert!(!all.contains(is_hostile), "{all:?}");
                assert!(screen.iter().all(|line| words::width(line) <= usize::from(size.0)), "{screen:#?}");
                if pane != Pane::Stages && "al".contains(keys) && !keys.is_empty() {
                    let foot = screen[usize::from(size.1) / 2..].concat();
                    assert!(foot.contains("y / n") || foot.contains(CURSOR), "{screen:#?}");
                }
            }
        }
    }
    let shown = shown(&mut state(view, Pane::Alerts), (200, 60));
    has(&shown, &["\\u{1b}[2J\\u{202e}evil"]);
}

#[test]
fn what_is_asked_and_how_it_ended_stands_at_the_bottom() {
    let mut state = state(sample::view(), Pane::Alerts);
    let last = |state: &mut State| shown(state, (80, 24)).lines().last().unwrap().to_owned();
    press(&mut state, "/pu");
    assert_eq!(last(&mut state), "filter: pu▏ Enter keeps it, Esc clears it");
    press(&mut state, "\n");
    assert!(last(&mut state).starts_with("filter pu  ? help"));
    press(&mut state, "lbear");
    assert_eq!(last(&mut state), "what was it, at pump 1? normal, or a fault's name: bear▏");
    press(&mut state, "\n");
    assert_eq!(last(&mut state), "pump 1: alert aaaa was `bear`? y / n");
    press(&mut state, "y");
    assert_eq!(last(&mut state), "calling an alert of pump 1 bear …");
    state.done(Ok("pump 1: so".into()));
    assert_eq!(last(&mut state), "done: pump 1: so");
    state.done(Err("the bus\u{1b} does not answer".into()));
    assert_eq!(last(&mut state), "‼ failed: the bus\\u{1b} does not answer (Esc)");
    let mut narrow = self::state(sample::view(), Pane::Alerts);
    press(&mut narrow, "a");
    let screen = shown(&mut narrow, (40, 12));
    has(&screen, &["acknowledge 1 alert of pump 1,", "y / n"]);
}

#[test]
fn help_names_every_key() {
    let mut state = state(sample::view(), Pane::Overview);
    press(&mut state, "?");
    let screen = shown(&mut state, (80, 24));
    has(
        &screen,
        &[
            "↑ ↓, j k",
            "/ ",
            "acknowledge: you look after it",
            "maintenance of the device",
            "q, Ctrl-C",
            "any key: back",
        ],
    );
    has(&shown(&mut state, (40, 30)), &["a: acknowledge", "q, Ctrl-C: end"]);
}

#[test]
fn colours_are_left_out_where_nobody_wants_them_and_say_nothing_alone() {
    let mut state = state(sample::view(), Pane::Alerts);
    let coloured =
        |buffer: &Buffer| buffer.content().iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
    let (plain, full) = (drawn(&mut state, (80, 24), PLAIN), drawn(&mut state, (80, 24), Look { colour: true }));
    assert!(!coloured(&plain) && coloured(&full));
    assert_eq!(picture::text(&plain), picture::text(&full), "the same words");
    let chosen = plain.content().iter().any(|cell| cell.symbol() == "▸" && cell.modifier.contains(Modifier::REVERSED));
    assert!(chosen);
}
