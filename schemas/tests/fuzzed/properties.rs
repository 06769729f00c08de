//! Batches and texts made up, whole and with bytes changed.

use eddy_schemas::{
    Control, ControlKind, EmbeddingsBuilder, HeadLayout, ReadingsBuilder, SamplesBuilder, ScoresBuilder, Told,
    region::LabelNews,
    sync::{self, wire},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use prost::Message as _;

use super::checks;

/// What stands in a row, whatever the batch; a control where there is one.
#[derive(Clone, Debug)]
struct Row {
    series: String,
    time: i64,
    value: f64,
    flags: u16,
    control: Option<Control>,
}

fn control() -> impl Strategy<Value = Control> {
    let kind = prop_oneof![
        ("[a-z.> %é]{1,12}", any::<bool>(), any::<Option<i64>>())
            .prop_map(|(device, on, until)| ControlKind::Maintenance { device, on, until }),
        ("[a-z]{1,4}", ".{0,8}", ".{0,8}").prop_map(|(device, alert, label)| ControlKind::Label {
            device,
            alert,
            label
        }),
        "[a-z]{1,4}".prop_map(|device| ControlKind::DeviceReset { device }),
        ("[a-z.> %é/]{1,12}", ".{0,8}", any::<i64>(), vec(-1e9f32..1e9, 0..20)).prop_map(
            |(device, label, time, vector)| {
                let (site, alert, origin) = (device.clone(), label.clone(), label.clone());
                let (channel, bundle, filled, score) = ("c".into(), "00ff".into(), 7, 0.5);
                let news = LabelNews {
                    site,
                    device: device.clone(),
                    channel,
                    alert,
                    label,
                    origin,
                    time,
                    bundle,
                    start: time,
                    end: time,
                    filled,
                    score,
                    vector,
                };
                ControlKind::RegionLabel { device, news: Box::new(news) }
            }
        ),
    ];
    ("[!-~]{1,20}", ".{0,8}", any::<i64>(), kind).prop_map(|(id, origin, time, kind)| Control {
        id,
        origin,
        time,
        kind,
    })
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let series = prop_oneof![Just("d/t".to_owned()), Just("d/u".to_owned()), "[a-zA-Z0-9_-]{1,9}/[a-z]{1,9}"];
    let control = proptest::option::weighted(0.2, control());
    let row = (series, any::<i64>(), any::<f64>(), any::<u16>(), control)
        .prop_map(|(series, time, value, flags, control)| Row { series, time, value, flags, control });
    vec(row, 0..40)
}

/// Entries and gaps in any order of lengths, from a number on: a whole batch.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let part = (any::<bool>(), 1u64..1_000, vec(any::<u8>(), 0..60));
    (vec(part, 1..12), 1u64..u64::MAX / 2, any::<[u8; 16]>()).prop_map(|(parts, first, chain)| {
        let (mut entries, mut gaps, mut next) = (wire::Entries::default(), Vec::new(), first);
        for (is_gap, length, bytes) in parts {
            if is_gap {
                gaps.push(wire::Gap { first: next, last: next + length - 1, count: length, ..Default::default() });
                next += length;
            } else {
                entries.entries.push(wire::Entry { id: next, what: Some(wire::entry::What::Alert(bytes.into())) });
                next += 1;
            }
        }
        let (class, last, chain) = (sync::Class::Alerts.into(), next - 1, chain.to_vec().into());
        let mut batch =
            wire::Batch { site: "s".into(), class, chain, number: 1, first, last, gaps, ..Default::default() };
        batch.pack(&entries);
        batch.encode_to_vec()
    })
}

const HEADS: [(&str, usize); 3] = [("value", 1), ("level", 4), ("raw", 5)];

/// The same rows in each layout.
fn batches(rows: &[Row]) -> [Vec<u8>; 4] {
    let heads = HEADS.map(|(name, dimensions)| HeadLayout { name: name.into(), dimensions, optional: false });
    let (mut readings, mut samples) = (ReadingsBuilder::default(), SamplesBuilder::default());
    let (mut embeddings, mut scores) = (EmbeddingsBuilder::new("digest", &heads), ScoresBuilder::new("digest"));
    for Row { series, time, value, flags, control } in rows {
        if let Some(control) = control {
            readings.push_control(control, *time);
            samples.push_control(control);
            embeddings.push_control(control);
            scores.push_control(control);
            continue;
        }
        readings.push(series, *time, *value, *flags, time.wrapping_add(1));
        samples.push(series, *time, *value, *flags, time.wrapping_sub(1));
        embeddings.push(series, *time, *flags, *flags, flags % 2 == 1, *time);
        for (index, (_, dimensions)) in HEADS.iter().enumerate() {
            embeddings.extend_head(index, &vec![*value as f32; *dimensions]);
        }
        let told = Told { span: *time, filled: *flags, vector: &[*value as f32, -1.0] };
        scores.push(series, *time, *value as f32, *value, *flags, (flags % 3 == 0).then_some(told));
    }
    [readings.encode(), samples.encode(), embeddings.encode(), scores.encode()]
}

fn check_all(batches: &[Vec<u8>; 4]) {
    for check in [checks::readings, checks::samples, checks::embeddings, checks::scores] {
        batches.iter().for_each(|batch| check(batch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_comes_back_whole_and_cut(rows in rows()) {
        check_all(&batches(&rows));
    }

    #[test]
    fn a_batch_with_bytes_changed(rows in rows(), changes in vec((any::<Index>(), any::<u8>()), 1..6), cut in any::<Index>()) {
        let mut batches = batches(&rows);
        for batch in &mut batches {
            for (index, byte) in &changes {
                let at = index.index(batch.len());
                batch[at] = *byte;
            }
        }
        check_all(&batches);
        for batch in &mut batches {
            batch.truncate(cut.index(batch.len()));
        }
        check_all(&batches);
    }

    #[test]
    fn what_is_sent_comes_back_and_with_bytes_changed_is_whole_or_refused(
        batch in sent(), changes in vec((any::<Index>(), any::<u8>()), 1..4), cut in any::<Index>()
    ) {
        prop_assert!(wire::Batch::read(&batch).is_ok());
        checks::batch(&batch);
        let mut changed = batch;
        for (index, byte) in changes {
            let at = index.index(changed.len());
            changed[at] = byte;
        }
        checks::batch(&changed);
        changed.truncate(cut.index(changed.len()));
        checks::batch(&changed);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..200)) {
        for check in [checks::readings, checks::samples, checks::embeddings, checks::scores] {
            check(&bytes);
        }
        checks::control(&bytes);
        checks::alert(&bytes);
        checks::series(&bytes);
        checks::batch(&bytes);
    }

    #[test]
    fn every_control_comes_back(control in control()) {
        let json = control.to_json();
        prop_assert_eq!(Control::parse(json.as_bytes()), Ok(control));
        checks::control(json.as_bytes());
    }

    #[test]
    fn every_name_is_one_token_and_comes_back(text in ".{0,40}\n?.{0,40}") {
        checks::series(text.as_bytes());
    }

    #[test]
    fn an_alert_comes_back_to_the_last_bit(score in any::<f64>(), tail in any::<f64>(), device in ".{1,12}") {
        prop_assume!(score.is_finite() && tail.is_finite());
        let text = serde_json::to_string(&device).unwrap();
        let alert = format!(
            "{{\"alert\":\"0\",\"phase\":\"opened\",\"severity\":\"minor\",\"site\":\"s\",\"device\":{text},\"opened\":\"\",\
             \"score\":{score:?},\"tail\":{tail:?},\"threshold\":1e-4,\"tail_min\":{tail:?},\"channels\":[],\"heads\":[],\
             \"bundle\":\"\"}}"
        );
        let event = format!(
            "{{\"specversion\":\"1.0\",\"id\":\"0-0\",\"source\":\"eddy/s\",\"type\":\"eddy.alert.opened\",\"subject\":\"d\",\
             \"time\":\"\",\"datacontenttype\":\"application/json\",\"dataschema\":\"\",\"data\":{alert}}}"
        );
        let read: eddy_schemas::alert::CloudEvent = serde_json::from_str(&event).unwrap();
        prop_assert_eq!((read.data.score.to_bits(), read.data.tail.to_bits()), (score.to_bits(), tail.to_bits()));
        checks::alert(event.as_bytes());
    }
}
