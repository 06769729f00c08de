//! Engines of others read every class.

use std::process::Command;

use super::filled::{ALL, Filled, summary};
use crate::sources::clients::python;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duckdb_and_pyarrow_read_every_row_and_a_query_touches_few_row_groups() {
    let (Some(python), Some(_)) = (python("duckdb"), python("pyarrow")) else { return };
    let filled = Filled::with(220).await;
    let folder = tempfile::tempdir().unwrap();
    summary(filled.export(folder.path().to_str().unwrap()).args(ALL));
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/parquet.py");
    let mut command = Command::new(python);
    command.arg(script).arg(folder.path()).args(["d-3", "2026-01-06T10:00:00", "2026-01-06T11:00:00"]);
    let told = summary(&mut command);
    for (class, rows) in &filled.rows {
        let of = &told["classes"][class];
        assert_eq!((&of["duckdb"], &of["pyarrow"]), (&(*rows).into(), &(*rows).into()), "{class}");
    }
    let columns = |class: &str| told["classes"][class]["columns"].to_string();
    assert!(columns("readings").contains("timestamp[ns, tz=UTC]"), "{}", columns("readings"));
    assert!(columns("embeddings").contains("head_learned") && columns("embeddings").contains("head_raw"));
    let metadata = &told["classes"]["scores"]["metadata"];
    assert_eq!((&metadata["eddy.schema_version"], &metadata["eddy.bundle"]), (&"1".into(), &"bundle".into()));
    assert_eq!((&metadata["eddy.class"], &metadata["eddy.stream"]), (&"scores".into(), &"DETECTIONS".into()));
    // A row comes every two seconds, one in eight is the device's.
    assert_eq!(told["query"]["rows"], 3_600 / 2 / 8);
    let (touched, all) = (told["query"]["row_groups"].as_u64().unwrap(), told["query"]["of"].as_u64().unwrap());
    assert!(all >= 4 && touched <= 1, "{touched} of {all} row groups");
}
