//! The fuzz targets' committed corpus, through the same checks: what a fuzzer found once stays found, without one.

use std::{fs, path::Path};

use super::checks::{
    Format, input,
    sources::{gzip, topic},
};

fn replay(target: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for file in files {
        let file = file.unwrap().path();
        let bytes = fs::read(&file).unwrap();
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&bytes)));
        assert!(checked.is_ok(), "{} does not hold", file.display());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}

#[test]
fn the_corpus_of_every_decoder_holds() {
    for (target, format) in [
        ("json", Format::Json),
        ("senml", Format::Senml),
        ("line", Format::Line),
        ("arrow", Format::Arrow),
        ("number", Format::Plain),
        ("sniffed", Format::Sniffed),
    ] {
        replay(target, |bytes| input(format, bytes));
    }
}

#[test]
fn the_corpus_of_topics_and_bodies_holds() {
    replay("topic", topic);
    replay("gzip", gzip);
}
