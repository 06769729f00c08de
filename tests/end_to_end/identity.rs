//! A re-imaged machine is not taken for the old one: a stop with the recovery command named, and the command works.

use std::time::Duration;

use eddy_runtime::provision::provision;

use crate::{
    gateway::{Gateway, ROOMY, SITE, connect},
    oracle::{assert_same, outcome},
    recording::{fleet, send},
    stage::binary,
};

async fn ran(rows: usize) -> Gateway {
    let mut gateway = Gateway::start(&ROOMY).await;
    send(&gateway.client, &fleet(&["harbour-1"], rows), 1_000).await;
    gateway.wait_until_through().await;
    for stage in &mut gateway.stages {
        assert!(stage.stop().success(), "{}", stage.log());
    }
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_streams_beside_old_state_stop_with_the_way_out() {
    let mut gateway = ran(600).await;
    gateway.server.reimage();
    gateway.client = connect(&gateway.server.url()).await;
    provision(&gateway.client, SITE, 1, &ROOMY).await.unwrap();
    gateway.stages.iter_mut().for_each(|stage| stage.restart());
    tokio::time::sleep(Duration::from_secs(2)).await;
    for name in ["preprocess", "embed", "detect"] {
        let stage = gateway.stage(name);
        let status = stage.ended().unwrap_or_else(|| panic!("{name} goes on with another machine's state"));
        assert_eq!(status.code(), Some(70), "{}", stage.log());
        assert!(stage.log().contains(&format!("eddy-{name} recover")), "{}", stage.log());
        let recovered = std::process::Command::new(binary(&format!("eddy-{name}")))
            .arg("recover")
            .envs(gateway.stage(name).environment().iter().cloned())
            .env_remove("EDDY_SEED")
            .status()
            .unwrap();
        assert!(recovered.success());
        gateway.stage(name).restart();
    }
    send(&gateway.client, &fleet(&["harbour-1"], 600), 1_000).await;
    gateway.wait_until_through().await;
    let fresh = ran(600).await;
    assert_same(&outcome(&fresh.client).await, &outcome(&gateway.client).await, "after recover");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_state_beside_old_streams_is_made_again_from_them() {
    let mut gateway = ran(1_500).await;
    std::fs::remove_dir_all(gateway.state()).unwrap();
    gateway.stages.iter_mut().for_each(|stage| stage.restart());
    let all = fleet(&["harbour-1"], 2_900);
    send(&gateway.client, &all, 1_000).await;
    gateway.wait_until_through().await;
    let undisturbed = ran(2_900).await;
    assert_same(&outcome(&undisturbed.client).await, &outcome(&gateway.client).await, "state made again");
}
