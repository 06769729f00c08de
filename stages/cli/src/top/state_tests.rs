use eddy_schemas::alert::Severity;

use super::*;
use crate::top::sample;

fn state() -> State {
    let view = Arc::new(sample::view());
    State { view, who: "alice".into(), size: (80, 24), ..State::default() }
}

/// Types: letters as they are, `<esc>`, `<enter>`, `<tab>`, `<up>`, `<down>`, `<left>`, `<right>`, `<back>`; what was asked last.
fn press(state: &mut State, keys: &str) -> Option<Ask> {
    let mut rest = keys;
    let mut asked = None;
    while let Some(letter) = rest.chars().next() {
        let named = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (code, after) = match named {
            Some((name, after)) => (code(name), after),
            None => (KeyCode::Char(letter), &rest[letter.len_utf8()..]),
        };
        asked = state.key(KeyEvent::new(code, KeyModifiers::NONE));
        rest = after;
    }
    asked
}

fn code(name: &str) -> KeyCode {
    match name {
        "esc" => KeyCode::Esc,
        "enter" => KeyCode::Enter,
        "tab" => KeyCode::Tab,
        "backtab" => KeyCode::BackTab,
        "up" => KeyCode::Up,
        "down" => KeyCode::Down,
        "left" => KeyCode::Left,
        "right" => KeyCode::Right,
        "back" => KeyCode::Backspace,
        "end" => KeyCode::End,
        "home" => KeyCode::Home,
        name => panic!("{name}"),
    }
}

fn devices(state: &State) -> Vec<&str> {
    state.incidents().iter().map(|incident| incident.device.as_str()).collect()
}

fn chosen(state: &State) -> (&str, &str) {
    let (_, alert) = state.alert().unwrap();
    (&alert.device, &alert.alert)
}

#[test]
fn panes_and_the_end_have_their_keys() {
    let mut state = state();
    for (keys, pane) in [("3", Pane::Stages), ("<tab>", Pane::Overview), ("<backtab><backtab>", Pane::Alerts)] {
        assert_eq!((press(&mut state, keys), state.pane), (None, pane));
    }
    assert_eq!(press(&mut state, "?"), None);
    assert_eq!(
        (state.mode == Mode::Help, press(&mut state, "q"), &state.mode),
        (true, None, &Mode::Look),
        "any key: back"
    );
    assert_eq!(press(&mut state, "q"), Some(Ask::Quit));
    let control = |letter| KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL);
    press(&mut state, "l");
    assert_eq!(
        (state.key(control('l')), state.key(control('c'))),
        (Some(Ask::Redraw), Some(Ask::Quit)),
        "whatever is asked"
    );
}

#[test]
fn a_filter_hides_while_it_is_written() {
    let mut state = state();
    assert_eq!(devices(&state), ["pump 1", "market", "fan"]);
    press(&mut state, "/PUM");
    assert_eq!((devices(&state), &state.mode), (vec!["pump 1"], &Mode::Filter));
    press(&mut state, "q<back><back><back><back>bearing<enter>");
    assert_eq!((devices(&state), &state.mode), (vec!["fan"], &Mode::Look), "its label");
    press(&mut state, "<esc>/critical");
    assert_eq!(devices(&state), ["pump 1"]);
    press(&mut state, "<back><esc>");
    assert_eq!((state.filter.as_str(), devices(&state).len()), ("", 3));
    press(&mut state, "/none such");
    assert_eq!((state.chosen(), state.alert()), (None, None));
    assert_eq!(press(&mut state, "<enter>ajk<left><enter>"), None, "nothing to act on");
    state.paste("x");
    press(&mut state, "<esc>");
    // Over a slow line Esc and the next key are one.
    state.key(KeyEvent::new(KeyCode::Char('/'), KeyModifiers::ALT));
    assert_eq!((state.filter.as_str(), &state.mode), ("", &Mode::Filter));
    state.paste("fan\n\u{1b}");
    assert_eq!((state.filter.as_str(), &state.mode), ("fan", &Mode::Filter), "pasted text is text");
}

#[test]
fn what_is_hidden_and_what_is_over_comes_and_goes() {
    let mut state = state();
    press(&mut state, "s");
    assert_eq!(devices(&state), ["pump 1", "market", "fan", "press"]);
    press(&mut state, "o");
    assert_eq!(devices(&state), ["pump 1", "market", "press"]);
    press(&mut state, "so");
    assert_eq!(devices(&state), ["pump 1", "market", "fan"]);
}

#[test]
fn the_choice_stays_on_its_incident_while_others_come() {
    let mut state = state();
    assert_eq!(chosen(&state), ("pump 1", "aaaa"));
    press(&mut state, "<down>");
    assert_eq!(chosen(&state), ("market", "bbbb"));
    let mut view = sample::view();
    let newer = sample::incident("t", vec![sample::alert("eeee", "new", Severity::Critical)]);
    view.alerts.incidents.insert(0, newer);
    state.take(Arc::new(view.clone()));
    assert_eq!((chosen(&state), state.chosen().map(|(at, _)| at)), (("market", "bbbb"), Some(2)));
    // It is gone: whatever stands there now.
    view.alerts.incidents.remove(2);
    state.take(Arc::new(view));
    assert_eq!(chosen(&state), ("fan", "cccc"));
    press(&mut state, "<up><up><up><up><up>");
    assert_eq!(chosen(&state), ("new", "eeee"));
    press(&mut state, "G");
    assert_eq!(chosen(&state), ("fan", "cccc"));
    // Until somebody chose, the first one is the chosen one.
    let mut state = self::state();
    let mut view = sample::view();
    view.alerts.incidents.reverse();
    state.hidden_shown = true;
    state.take(Arc::new(view));
    assert_eq!(chosen(&state), ("press", "dddd"));
}

#[test]
fn left_and_right_go_through_the_alerts_of_an_incident() {
    let mut state = state();
    press(&mut state, "<left>");
    assert_eq!(chosen(&state), ("pump 1", "aaaa"));
    press(&mut state, "<right><right>");
    assert_eq!(chosen(&state), ("pump 1", "aaab"));
    press(&mut state, "<down><up>");
    assert_eq!(chosen(&state), ("pump 1", "aaaa"), "the newest");
}

#[test]
fn curves_are_those_of_the_alert_that_is_looked_at() {
    let mut state = state();
    assert_eq!(state.looked_at(), None);
    press(&mut state, "<enter>");
    assert_eq!((state.pane, state.looked_at().map(|alert| alert.alert.as_str())), (Pane::Alerts, Some("aaaa")));
    press(&mut state, "<enter><esc><enter>");
    assert!(state.whole);
}

#[test]
fn acknowledging_is_of_all_that_nobody_has_seen_and_is_asked_first() {
    let mut state = state();
    press(&mut state, "a");
    let Mode::Prompt(prompt) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!(prompt.question(), "acknowledge 1 alert of pump 1, temperature, as alice? y / n");
    assert_eq!((press(&mut state, "x<enter>n"), &state.mode), (None, &Mode::Look));
    let deed = Deed::Acknowledge { device: "pump 1".into(), alerts: vec!["aaaa".into()] };
    assert_eq!(press(&mut state, "ay"), Some(Ask::Do(deed)));
    assert!(matches!(&state.outcome, Some(Outcome::Busy(what)) if what == "acknowledging 1 of pump 1 …"));
    assert_eq!((press(&mut state, "a"), &state.mode), (None, &Mode::Look), "one thing at a time");
    state.done(Err("the bus does not answer".into()));
    press(&mut state, "j");
    assert_eq!(state.outcome, Some(Outcome::Failed("the bus does not answer".into())), "until it is sent away");
    press(&mut state, "<esc>");
    assert_eq!(state.outcome, None);
    // Of one that is over: that one.
    press(&mut state, "G");
    let deed = Deed::Acknowledge { device: "fan".into(), alerts: vec!["cccc".into()] };
    assert_eq!(press(&mut state, "ay"), Some(Ask::Do(deed)));
    state.done(Ok("done".into()));
    press(&mut state, "k");
    assert_eq!(state.outcome, None);
}

#[test]
fn a_label_is_written_then_confirmed() {
    let mut state = state();
    press(&mut state, "<right>l<enter>");
    let question = |state: &State| match &state.mode {
        Mode::Prompt(prompt) => prompt.question(),
        mode => panic!("{mode:?}"),
    };
    assert_eq!(question(&state), "normal, or a fault's name, but not *:");
    press(&mut state, "bearingq<back>");
    assert_eq!(question(&state), "what was it, at pump 1? normal, or a fault's name:");
    press(&mut state, "<enter>");
    assert_eq!(question(&state), "pump 1: alert aaab was `bearing`? y / n");
    let label = |label: &str| Deed::Label { device: "pump 1".into(), alert: "aaab".into(), label: label.into() };
    assert_eq!(press(&mut state, "y"), Some(Ask::Do(label("bearing"))));
    state.done(Ok(String::new()));
    assert_eq!(press(&mut state, "lnormal<esc>y"), None);
    assert_eq!(press(&mut state, "l normal <enter>y"), Some(Ask::Do(label("normal"))));
    state.done(Ok(String::new()));
    // As long as a label may be, and no longer.
    press(&mut state, &format!("l{}", "é".repeat(150)));
    let Mode::Prompt(prompt) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!(prompt.text().map(str::len), Some(200));
}

#[test]
fn maintenance_is_for_a_while_until_it_is_ended_or_off() {
    let mut state = state();
    let maintain = |on, for_ns| Some(Ask::Do(Deed::Maintain { device: "pump 1".into(), on, for_ns }));
    for (keys, deed) in [
        ("m2h<enter>y", maintain(true, Some(7_200_000_000_000))),
        ("mon<enter>y", maintain(true, None)),
        ("moff<enter>y", maintain(false, None)),
        ("m2w<enter>y<esc>", None),
        ("m<enter>y<esc>", None),
        ("m2h<enter>n", None),
    ] {
        assert_eq!(press(&mut state, keys), deed, "{keys}");
        state.done(Ok(String::new()));
    }
    press(&mut state, "m2w<enter>");
    let Mode::Prompt(prompt) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!(prompt.question(), "expected a duration like 90s, 30m, 2h or 7d, on or off:");
    press(&mut state, "<esc>sGm");
    let Mode::Prompt(prompt) = &state.mode else { panic!("{:?}", state.mode) };
    assert_eq!(prompt.question(), "maintenance of press, which is until 2026-01-20 23:40:00Z? 2h, 30m, on or off:");
}

#[test]
fn what_is_asked_about_does_not_change_under_ones_hands() {
    let mut state = state();
    press(&mut state, "a");
    let mut view = sample::view();
    let newer = sample::incident("t", vec![sample::alert("eeee", "new", Severity::Critical)]);
    view.alerts.incidents.insert(0, newer);
    state.take(Arc::new(view));
    let deed = Deed::Acknowledge { device: "pump 1".into(), alerts: vec!["aaaa".into()] };
    assert_eq!(press(&mut state, "y"), Some(Ask::Do(deed)));
    assert_eq!(chosen(&state).0, "pump 1");
}

#[test]
fn the_stages_pane_scrolls_to_its_end_and_acts_on_nothing() {
    let mut state = state();
    press(&mut state, "3G");
    let end = state.scroll;
    press(&mut state, "jj");
    assert_eq!(state.scroll, end);
    press(&mut state, "k");
    assert_eq!(state.scroll, end.saturating_sub(1));
    assert_eq!(press(&mut state, "g<up>"), None);
    assert_eq!(state.scroll, 0);
    press(&mut state, "a");
    assert!(matches!(&state.outcome, Some(Outcome::Failed(why)) if why.contains("no alert is chosen")));
}
