use std::{fs, io::Write as _, path::Path};

use super::*;

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut file = flate2::write::GzEncoder::new(fs::File::create(path).unwrap(), flate2::Compression::fast());
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
}

#[test]
fn every_layout_is_found_and_read_without_its_labels() {
    let data = tempfile::tempdir().unwrap();
    let rows: String = (0..20).map(|i| format!("2014-01-01 00:{i:02}:00,{i}\n")).collect();
    put(&data.path().join("nab/data/real/a.csv"), &format!("timestamp,value\n{rows}"));
    put(&data.path().join("nab/combined_windows.json"), "{}");
    let run = "datetime;p;q;anomaly;changepoint\n2020-03-09 10:14:33;1.5;2;x;y\n";
    put(&data.path().join("skab/valve1/0.csv"), run);
    let water = "timestamp,tp,cl,label,scored\n0,1,,x,0\n1,2,3,x,0\n2,NA,5,x,1\n3,6,7,x,0\n";
    put(&data.path().join("gecco/g.csv.gz"), water);

    let inputs = list(data.path(), &Set::ALL).unwrap();
    let names: Vec<_> = inputs.iter().map(|input| (input.set, input.name.as_str())).collect();
    assert_eq!(names, [(Set::Nab, "real/a.csv"), (Set::Skab, "valve1/0.csv"), (Set::Gecco, "g.csv.gz")]);
    assert!(list(data.path(), &[Set::Ucr]).unwrap().is_empty());

    let nab = read(&inputs[0]).unwrap();
    assert_eq!((nab.channels.as_slice(), nab.granted_rows, nab.times.len()), (["value".to_owned()].as_slice(), 3, 20));
    assert_eq!((nab.stamps[1].as_str(), nab.times[1] - nab.times[0]), ("2014-01-01 00:01:00", 60_000_000_000));
    let skab = read(&inputs[1]).unwrap();
    assert_eq!((skab.channels.join(","), skab.granted_rows, skab.row(0)), ("p,q".into(), 400, [1.5, 2.0].as_slice()));
    let gecco = read(&inputs[2]).unwrap();
    assert_eq!((gecco.granted_rows, gecco.times[3]), (2, 180_000_000_000));
    assert!(gecco.row(0)[1].is_nan() && gecco.row(2)[0].is_nan());
    assert_eq!(gecco.row(3), [6.0, 7.0]);
}

#[test]
fn a_wrong_cell_is_named_with_its_file_and_line() {
    let data = tempfile::tempdir().unwrap();
    put(&data.path().join("ucr/x.csv"), "timestamp,value,label,scored\n0,1,0,1\n1,one,0,1\n");
    let error = format!("{:#}", read(&list(data.path(), &Set::ALL).unwrap()[0]).unwrap_err());
    for part in ["x.csv", "line 3", "\"one\""] {
        assert!(error.contains(part), "{part}: {error}");
    }
}
