//! Files that are not what they seem: an error that names the file, or what can still be read, and never a panic.

use super::*;

#[test]
fn rubbish_under_every_extension_is_refused_by_name_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for extension in ["parquet", "jsonl", "ndjson", "lp", "csv", "txt", "json"] {
        for (number, bytes) in
            [&b""[..], b"PAR1", b"PAR1\0\0\0\0PAR1", &[0xff; 300], b"\0\0\0", b"{", b"[1", b"\n\n"].iter().enumerate()
        {
            let path = folder.path().join(format!("f{number}.{extension}"));
            fs::write(&path, bytes).unwrap();
            match read(std::slice::from_ref(&path), None) {
                Ok((readings, _)) => assert_eq!(readings, [], "{path:?}"),
                Err(problem) => assert!(problem.to_string().contains(&format!("f{number}.")), "{problem}"),
            }
        }
    }
    let gz = folder.path().join("x.parquet.gz");
    fs::write(&gz, "").unwrap();
    assert!(read(&[gz], None).unwrap_err().to_string().contains("gunzip"));
}

#[test]
fn a_parquet_file_that_lost_or_changed_bytes_never_panics_its_reader() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.parquet");
    let rows = 300;
    let time = stamps((0..rows).map(|row| Some(START + row * SECOND)));
    let device = dictionary((0..rows).map(|row| Some(if row % 2 == 0 { "a" } else { "b" })));
    let value = floats((0..rows).map(|row| (row % 7 != 0).then_some(row as f64)));
    write_parquet(&path, vec![("time", time), ("device", device), ("x", value)], 101);
    let whole = fs::read(&path).unwrap();
    // Progress is not asked of damaged files: a reader may end early.
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let options = ReadOptions { device: None, rows: ROWS };
        let mut merged = Merged::open(std::slice::from_ref(&path), &options, &open::BytesRead::default())?;
        let (mut row, mut readings) = (Row::default(), 0);
        while merged.next_row(&mut row)? {
            readings += row.values.len();
            assert!(readings < 1_000_000, "it ends");
        }
        Ok::<_, ReadError>(readings)
    };
    assert_eq!(read(&whole).unwrap(), 257);
    for length in (0..whole.len()).step_by(37) {
        assert!(read(&whole[..length]).unwrap_err().to_string().contains("d.parquet"), "{length}");
    }
    // The decoder's panics are told as errors; only their traces are noise here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes = (0..whole.len()).step_by(3).map(|at| {
        let mut changed = whole.clone();
        changed[at] ^= 1 << (at % 8);
        std::panic::catch_unwind(|| read(&changed))
    });
    let outcomes: Vec<_> = outcomes.collect();
    std::panic::set_hook(hook);
    assert!(outcomes.iter().all(Result::is_ok), "a panic came through");
    assert!(outcomes.iter().flatten().any(Result::is_err));
}
