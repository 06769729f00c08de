//! The fuzz targets' committed corpus, through the same checks: what a fuzzer found once stays found, without one.

use std::{fs, panic::catch_unwind, path::Path};

use super::checks;

type Check = fn(&[u8]);

#[test]
fn the_corpus_of_every_decoder_holds() {
    let targets: &[(&str, Check)] = &[
        ("readings", checks::readings),
        ("samples", checks::samples),
        ("embeddings", checks::embeddings),
        ("scores", checks::scores),
        ("control", checks::control),
        ("alert", checks::alert),
        ("series", checks::series),
        ("batch", checks::batch),
    ];
    for (target, check) in targets {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut count = 0;
        for file in files {
            let file = file.unwrap().path();
            let bytes = fs::read(&file).unwrap();
            assert!(catch_unwind(|| check(&bytes)).is_ok(), "{} does not hold", file.display());
            count += 1;
        }
        assert!(count > 0, "{} is empty", folder.display());
    }
}
