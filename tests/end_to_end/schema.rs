//! Every alert that leaves a gateway is what its JSON Schema says.

use eddy_schemas::alert::JSON_SCHEMA;

use crate::{
    gateway::{Gateway, ROOMY},
    oracle::outcome,
    recording::{fleet, send},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_what_their_schema_says() {
    let gateway = Gateway::start(&ROOMY).await;
    send(&gateway.client, &fleet(&["harbour-1", "plaza.north 7"], 2_900), 5_000).await;
    gateway.wait_until_through().await;
    let alerts = outcome(&gateway.client).await.alerts;
    assert!(!alerts.is_empty());
    let schema = serde_json::from_str(JSON_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for alert in alerts.values().flatten() {
        let alert = serde_json::from_str(alert).unwrap();
        let problems: Vec<String> = validator.iter_errors(&alert).map(|error| error.to_string()).collect();
        assert!(problems.is_empty(), "{problems:?} in {alert}");
    }
}
