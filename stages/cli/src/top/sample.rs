//! A view as a gateway may show it, for tests.

use std::collections::BTreeMap;

use eddy_schemas::{
    alert::{Phase, Severity, Share},
    health::{Condition, Health},
    models::{self, State as Wish},
    search::IndexStats,
    sync::{ClassStats, UplinkStats},
};

use crate::{
    rollout::seen::Seen,
    status::{Aside, StreamUse},
    watch::{
        plots::{Curve, Plots},
        view::{AlertView, Alerts, Disk, Incident, Known, Said, StageState, StageView, Stretch, Suppression, View},
    },
};

/// 2026-01-20T22:40:00Z.
pub const NOW: i64 = 1_768_948_800_000_000_000;

/// An open alert.
pub fn alert(id: &str, device: &str, severity: Severity) -> AlertView {
    let share = |name: &str, share| Share { name: name.into(), share };
    AlertView {
        alert: id.into(),
        device: device.into(),
        severity,
        phase: Phase::Opened,
        opened: "2026-01-20T22:35:00Z".into(),
        told: "2026-01-20T22:35:00Z".into(),
        stored_at: NOW,
        score: 4.4,
        tail_min: 6.9e-11,
        threshold: 1e-4,
        channels: vec![share("temperature", 0.72), share("humidity", 0.26), share("voc", 0.02)],
        heads: vec![share("learned", 0.6), share("value", 0.4)],
        bundle: "5f0c3a9e1b2d4c68aa".into(),
        sequence: 7,
        known: None,
        label: None,
        acknowledged: None,
        suppressed: None,
    }
}

fn stretch(device: &str, distance: f32) -> Stretch {
    Stretch {
        device: device.into(),
        channel: "temperature".into(),
        start: NOW - 1_000_000_000_000,
        end: NOW,
        distance,
        sequence: 7,
        alert: Some("8e37cda8586cb1b3".into()),
        label: Some("bearing".into()),
    }
}

/// What the index says of it.
pub fn known(device: &str) -> Known {
    Known {
        text:
            "new to this device, seen on others (3 of 12); nearest: market/temperature at 2026-01-07T04:35:00Z d=0.089"
                .into(),
        fault: None,
        window: stretch(device, 0.0),
        neighbours: vec![stretch("market", 0.089), stretch("university", 0.175)],
    }
}

/// One incident of such alerts.
pub fn incident(cause: &str, alerts: Vec<AlertView>) -> Incident {
    let open = alerts.iter().filter(|alert| alert.phase != Phase::Closed).count();
    let unseen = |alert: &&AlertView| alert.phase != Phase::Closed && alert.acknowledged.is_none();
    Incident {
        device: alerts[0].device.clone(),
        cause: cause.into(),
        severity: alerts[0].severity,
        suppressed: alerts[0].suppressed,
        open,
        unseen: alerts.iter().filter(unseen).count(),
        alerts,
    }
}

/// Somebody's word.
pub fn said(what: &str, by: &str) -> Option<Said> {
    Some(Said { what: what.into(), by: by.into(), time: NOW })
}

/// Incidents: one that nobody has seen, one that somebody has, one that is over, one that is hidden.
pub fn incidents() -> Vec<Incident> {
    let first = AlertView { known: Some(known("pump 1")), ..alert("aaaa", "pump 1", Severity::Critical) };
    let older = AlertView { phase: Phase::Closed, ..alert("aaab", "pump 1", Severity::Minor) };
    let seen = AlertView { acknowledged: said("", "alice"), ..alert("bbbb", "market", Severity::Major) };
    let over =
        AlertView { phase: Phase::Closed, label: said("bearing", "bob"), ..alert("cccc", "fan", Severity::Minor) };
    let hidden = AlertView { suppressed: Some(Suppression::Maintenance), ..alert("dddd", "press", Severity::Minor) };
    vec![
        incident("temperature", vec![first, older]),
        incident("humidity", vec![seen]),
        incident("bearing", vec![over]),
        incident("voc", vec![hidden]),
    ]
}

fn stage(name: &str, state: StageState) -> StageView {
    StageView {
        name: name.into(),
        state,
        problem: (state == StageState::Unwell).then(|| "nothing moved for 30 s".into()),
        rows_per_s: Some(1_204.0),
        messages_per_s: 12,
        lag_messages: 17,
        batch_ms: Some((1.24, 3.1)),
        age_ms: Some((2.2, 48.0)),
        memory_bytes: Some(42_000_000),
    }
}

/// All of it: a stage that is unwell, a stream that is full, a link that is down, a bundle that is being rolled out.
pub fn view() -> View {
    use StageState::{Reading, Unwell};
    let names = ["capture", "preprocess", "embed", "detect", "index", "notify"];
    let stages = names.map(|name| stage(name, if name == "embed" { Unwell } else { Reading }));
    let stream = |(name, bytes): (&str, u64)| StreamUse {
        name: name.into(),
        messages: 3_591,
        bytes,
        bytes_max: Some(100_000_000),
        messages_per_s: 12,
    };
    let class =
        |class: &str, waiting, lost| ClassStats { class: class.into(), next: 99, waiting, waiting_bytes: 1_500, lost };
    View {
        site: "plant".into(),
        url: "nats://127.0.0.1:4222".into(),
        at: NOW,
        stages: stages.to_vec(),
        streams: [("INGEST", 2), ("READINGS", 96_000_000), ("SAMPLES", 12_000_000), ("SIDE", 5_000_000)]
            .map(stream)
            .to_vec(),
        disk: Some(Disk { free: 38_200_000_000, total: 80_000_000_000, full_in_s: Some(12.0 * 86_400.0) }),
        link: Some(UplinkStats {
            hub: "tls://hub:4333".into(),
            connected: false,
            classes: vec![class("alerts", 2, 0), class("deltas", 150, 810)],
        }),
        index: Some(IndexStats { windows: 3_591, series: 36, tail: 120, bytes: 2_400_000, ..index() }),
        bundles: Seen { active: ["5f0c3a9e1b2d4c68aa".to_owned()].into(), shadow: Vec::new() },
        wish: Some(Wish {
            wish: 3,
            digest: "77aa3a9e1b2d4c68aa".into(),
            phase: models::Phase::Shadow,
            reason: "12 of 36 series are warm".into(),
            time: NOW,
        }),
        conditions: vec![Health {
            device: "pump 2".into(),
            channel: Some("flow".into()),
            condition: Condition::Stuck,
            active: true,
            since: NOW,
            value: 4.0,
        }],
        aside: BTreeMap::from([(
            "capture".to_owned(),
            Aside {
                late_readings: 9,
                refused: BTreeMap::from([("no device".to_owned(), 3)]),
                last_refusal: Some("line 2".into()),
            },
        )]),
        maintenance: BTreeMap::from([("press".to_owned(), Some(NOW + 3_600_000_000_000))]),
        alerts: alerts(incidents()),
        trouble: None,
    }
}

/// Counted.
pub fn alerts(incidents: Vec<Incident>) -> Alerts {
    let heard = || incidents.iter().filter(|incident| incident.suppressed.is_none());
    let (open, unseen) = (heard().map(|i| i.open).sum(), heard().map(|i| i.unseen).sum());
    let mut suppressed = BTreeMap::new();
    for incident in &incidents {
        if let Some(reason) = incident.suppressed {
            *suppressed.entry(reason).or_default() += incident.alerts.len();
        }
    }
    Alerts { held: incidents.iter().map(|i| i.alerts.len()).sum(), incidents, open, unseen, suppressed }
}

fn index() -> IndexStats {
    IndexStats {
        windows: 0,
        tail: 0,
        flat: 0,
        deleted: 0,
        segments: 12,
        waiting: 0,
        series: 0,
        labels: 1,
        bytes: 0,
        missed: 0,
        position: String::new(),
    }
}

/// Curves of the first one.
pub fn plots() -> Plots {
    let curve = |device: &str, distance| Curve {
        device: device.into(),
        channel: "temperature".into(),
        label: Some("bearing".into()),
        alert: Some("8e37cda8586cb1b3".into()),
        distance,
        times_ms: (0..64).map(f64::from).collect(),
        values: (0..64).map(|n| f64::from(n % 16)).collect(),
        partial: false,
    };
    Plots {
        window: curve("pump 1", None),
        neighbours: vec![curve("market", Some(0.089)), curve("university", Some(0.175))],
        score: curve("pump 1", None),
        threshold: 4.0,
    }
}
