//! INV-3: the same recording gives the same alerts, whatever dies, and nothing is lost or doubled.

use std::time::Duration;

use crate::{
    gateway::{Gateway, ROOMY, STAGES},
    oracle::{assert_same, lost_and_doubled, outcome},
    recording::{Device, fleet, send},
};

/// Two devices with faults in their first ten days; the second one's name needs encoding.
fn recording() -> Vec<Device> {
    fleet(&["harbour-1", "plaza.north 7"], 2_900)
}

/// A seed that can be given again: `EDDY_SEED=… make test`.
pub fn seed() -> u64 {
    let seed = std::env::var("EDDY_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| std::process::id().into());
    println!("EDDY_SEED={seed}");
    seed
}

/// A reproducible source of chance.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

pub async fn undisturbed(per_message: usize) -> crate::oracle::Outcome {
    let gateway = Gateway::start(&ROOMY).await;
    send(&gateway.client, &recording(), per_message).await;
    gateway.wait_until_through().await;
    outcome(&gateway.client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_a_message_change_nothing() {
    let large = undisturbed(5_000).await;
    assert!(!large.alerts.is_empty(), "the recording raises alerts");
    // One row a message is slow to send: one device's first days are enough to show it.
    let small = undisturbed(7).await;
    assert_same(&large, &small, "7 rows a message against 5,000");
    let device = fleet(&["harbour-1"], 1_500);
    let mut single = Vec::new();
    for per_message in [1, 5_000] {
        let gateway = Gateway::start(&ROOMY).await;
        send(&gateway.client, &device, per_message).await;
        gateway.wait_until_through().await;
        single.push(outcome(&gateway.client).await);
    }
    assert_same(&single[1], &single[0], "1 row a message against 5,000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_the_alerts_are_the_same_and_nothing_is_lost_or_doubled() {
    let expected = undisturbed(5_000).await;
    let mut dice = Dice(seed());
    let devices = recording();
    let mut gateway = Gateway::start(&ROOMY).await;
    let client = gateway.client.clone();
    let sender = {
        let (client, devices) = (client.clone(), devices.clone());
        tokio::spawn(async move { send_through_kills(&client, &devices).await })
    };
    let mut kills = 0;
    while kills < 30 {
        tokio::time::sleep(Duration::from_millis(20 + dice.below(180))).await;
        match dice.below(5) {
            4 => gateway.server.kill_and_restart(),
            stage => gateway.stages[stage as usize].kill_and_restart(),
        }
        kills += 1;
    }
    sender.await.unwrap();
    gateway.wait_until_through().await;
    assert_same(&expected, &outcome(&client).await, "after 30 kills");
    assert_eq!(lost_and_doubled(&client, &devices).await, (0, 0));
}

/// Like `recording::send`, but tries again what was not acknowledged: the server dies in between.
async fn send_through_kills(client: &eddy_runtime::client::Client, devices: &[Device]) {
    let mut chunks: Vec<Device> = Vec::new();
    for device in devices {
        for readings in device.readings.chunks(150) {
            chunks.push(Device { name: device.name.clone(), readings: readings.to_vec() });
        }
    }
    for chunk in chunks {
        while !try_send(client, &chunk).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

async fn try_send(client: &eddy_runtime::client::Client, device: &Device) -> bool {
    let mut batch = eddy_schemas::ReadingsBuilder::default();
    for (channel, time, value) in &device.readings {
        batch.push(&eddy_schemas::SeriesName::encode(&device.name, channel), *time, *value, 0, *time);
    }
    let headers = [("Content-Type", "application/vnd.apache.arrow.stream")];
    client.publish(&crate::recording::subject(&device.name), &headers, batch.encode().into()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_instances_of_each_stage_one_goes_on() {
    let expected = undisturbed(5_000).await;
    let mut gateway = Gateway::start(&ROOMY).await;
    let mut twins: Vec<_> = STAGES.iter().map(|stage| gateway.start_twin(stage)).collect();
    send(&gateway.client, &recording(), 100).await;
    // Which of two is fenced is a matter of luck; one of each pair lives, and what lives is enough.
    for (stage, (one, twin)) in STAGES.iter().zip(gateway.stages.iter_mut().zip(&mut twins)) {
        assert!(one.ended().is_none() || twin.ended().is_none(), "both instances of {stage} ended");
    }
    gateway.wait_until_through().await;
    assert_same(&expected, &outcome(&gateway.client).await, "with two instances of each stage");
    for process in gateway.stages.iter_mut().chain(&mut twins) {
        if let Some(status) = process.ended() {
            assert_eq!(status.code(), Some(70), "{}", process.log());
            assert!(process.log().contains("fenced"), "{}", process.log());
        }
    }
}
