//! Golden cases: `fixtures/embed/<case>.in.csv` is what comes, `<case>.out.csv` the rows that go out, with commissioning
//! over 6 rows, or 40 for bursts. Vectors are compared within a thousandth, because their last bits depend on the CPU.
//! `EDDY_UPDATE_GOLDEN=1` writes what is found.

use std::{fmt::Write, fs};

use eddy_schemas::{Control, Embeddings};

use super::tests::{Row, embed, repository, run};
use crate::held::Sample;

/// `series,time_s,value,quality`, of a burst also its 32 levels, separated by spaces; or `control,` and its JSON. Text after
/// `#` is for readers.
fn read(text: &'static str) -> Vec<Row> {
    let row = |line: &'static str| {
        if let Some(json) = line.strip_prefix("control,") {
            return Row::Control(Control::parse(json.as_bytes()).unwrap());
        }
        let fields: Vec<_> = line.split(',').collect();
        let (fields, levels) = fields.split_at(4.min(fields.len()));
        let [series, time, value, quality] = fields[..] else { panic!("expected four fields, found {line:?}") };
        let time = time.parse::<i64>().unwrap() * 1_000_000_000;
        let sample =
            Sample { time, value: value.parse().unwrap(), quality: quality.parse().unwrap(), period: 1_000_000_000 };
        match levels.first() {
            None => Row::Sample(series, sample),
            Some(levels) => {
                let levels: Vec<f32> = levels.split(' ').map(|level| level.parse().unwrap()).collect();
                Row::Burst(series, sample, levels.try_into().unwrap())
            }
        }
    };
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(row).collect()
}

/// A row's own columns, and the vectors of its heads.
fn write(batch: &Embeddings) -> String {
    let mut text = String::from("series,time_s,quality,filled,commissioning");
    batch.heads.iter().for_each(|column| write!(text, ",{}", column.head.name).unwrap());
    text.push('\n');
    for row in 0..batch.rows.len() {
        if let Some(control) = batch.rows.control(row) {
            writeln!(text, "control,{}", control.to_json()).unwrap();
            continue;
        }
        let time = batch.rows.time[row] / 1_000_000_000;
        let (quality, filled, commissioning) = (batch.quality[row], batch.filled[row], batch.commissioning[row]);
        write!(text, "{},{time},{quality},{filled},{commissioning}", batch.rows.name(row)).unwrap();
        for column in &batch.heads {
            let mut vector = vec![0.0; column.head.dimensions];
            if !column.copy_to(row, &mut vector) {
                write!(text, ",").unwrap();
                continue;
            }
            let vector: Vec<_> = vector.iter().map(|x| format!("{x:.4}")).collect();
            write!(text, ",{}", vector.join(" ")).unwrap();
        }
        text.push('\n');
    }
    text
}

/// Whether two lines are the same but for numbers that differ by at most a thousandth.
fn same(expected: &str, found: &str) -> bool {
    let parts = |line: &str| line.split([',', ' ']).map(str::to_owned).collect::<Vec<_>>();
    let (expected, found) = (parts(expected), parts(found));
    let close = |a: &String, b: &String| match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= 1e-3 * (1.0 + a.abs()),
        _ => a == b,
    };
    expected.len() == found.len() && expected.iter().zip(&found).all(|(a, b)| close(a, b))
}

fn check(case: &str, input: &'static str) {
    check_with(6, case, input);
}

fn check_with(commissioning_rows: usize, case: &str, input: &'static str) {
    let batches = run(&mut embed(commissioning_rows), &read(input), usize::MAX);
    let found = write(&batches[0]);
    let path = repository().join(format!("fixtures/embed/{case}.out.csv"));
    if std::env::var_os("EDDY_UPDATE_GOLDEN").is_some() {
        fs::write(&path, &found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    for (number, (expected, found)) in expected.lines().zip(found.lines()).enumerate() {
        assert!(same(expected, found), "{case}, line {}: expected\n{expected}\nfound\n{found}", number + 1);
    }
    assert_eq!(
        found.lines().count(),
        expected.lines().count(),
        "{case}: lines; EDDY_UPDATE_GOLDEN=1 writes what is found"
    );
}

#[test]
fn golden_commissioning_and_a_break() {
    check("commissioning-break", include_str!("../../../../fixtures/embed/commissioning-break.in.csv"));
}

#[test]
fn golden_controls() {
    check("controls", include_str!("../../../../fixtures/embed/controls.in.csv"));
}

#[test]
fn golden_bursts() {
    // Commissioning over more rows: a scaling of spectra needs 32.
    check_with(40, "bursts", include_str!("../../../../fixtures/embed/bursts.in.csv"));
}
