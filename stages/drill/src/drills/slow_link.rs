//! `slow-link`: the link to the region carries a few KB a second, with a long delay; alerts go first all the same.

use std::time::Duration;

use anyhow::Result;
use eddy_cli::demo::region::oracle::{Sent, Told, id};
use eddy_fixtures::link::Conditions;

use super::{Disturb, linked::Linked};
use crate::{
    sandbox::config::Config,
    trial::{Kit, Trial},
};

/// Far less than what is to be sent while the recording is replayed.
const BYTES_PER_S: u64 = 4_000;
const DELAY: Duration = Duration::from_millis(150);
/// How long it stays slow when the recording is through; then it is mended, so that the drill ends.
const SLOW_AFTER: Duration = Duration::from_secs(8);

#[derive(Debug, Default)]
pub(super) struct SlowLink(Linked);

impl Disturb for SlowLink {
    async fn before(&mut self, kit: &Kit, config: &mut Config) -> Result<()> {
        self.0.start(kit, "slow-link-region", config).await
    }

    async fn prepare(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        self.0.joins(trial)
    }

    async fn act(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let slow = Conditions { bytes_per_s: Some(BYTES_PER_S), delay: DELAY, ..Conditions::default() };
        self.0.region()?.link.change(|now| *now = slow);
        trial.done.insert("link held to bytes a second".to_owned(), BYTES_PER_S);
        while !trial.is_fed() {
            trial.pause(Duration::from_millis(100)).await?;
        }
        Ok(())
    }

    async fn after(&mut self, trial: &mut Trial<'_>) -> Result<()> {
        let region = self.0.region()?;
        let until = tokio::time::Instant::now() + SLOW_AFTER;
        while tokio::time::Instant::now() < until && !region.has_all(trial).await? {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        region.link.change(|now| *now = Conditions::default());
        let (told, sent) = region.judge(trial).await?;
        let order = Order::of(&told, &sent)?;
        trial.figures.insert("alert_delay_ms".to_owned(), serde_json::json!(spread(order.alerts.clone())));
        trial.figures.insert("window_delay_ms".to_owned(), serde_json::json!(spread(order.windows.clone())));
        trial.figures.insert("alerts_that_overtook".to_owned(), order.overtook.into());
        if order.overtook == 0 {
            trial.problems.push("no alert overtook a window: the link never was full, or has no priorities".to_owned());
        }
        if order.overtaken > 0 {
            trial.problems.push(format!("{} alerts came after windows that were told later", order.overtaken));
        }
        Ok(())
    }

    async fn clean(&mut self, _keep: bool) {
        self.0.stop().await;
    }
}

/// In which order things came to the region.
#[derive(Debug, Default, PartialEq)]
struct Order {
    /// Milliseconds from the gateway's stream to the region's.
    alerts: Vec<i64>,
    windows: Vec<i64>,
    /// Alerts that came before a window that was told earlier.
    overtook: u64,
    /// Alerts that came after a window that was told later.
    overtaken: u64,
}

impl Order {
    fn of(told: &Told, sent: &Sent) -> Result<Self> {
        // Told and arrived, of each.
        let window = |((row, _), at): (&((u64, u32), _), &i64)| told.scores_at.get(&row.0).map(|told| (*told, *at));
        let windows: Vec<(i64, i64)> = sent.windows.iter().zip(&sent.windows_at).filter_map(window).collect();
        let mut alerts = Vec::new();
        for (alert, at) in sent.alerts.iter().zip(&sent.alerts_at) {
            if let Some(told) = told.alerts_at.get(&id(alert)?) {
                alerts.push((*told, *at));
            }
        }
        Ok(Self::among(&alerts, &windows))
    }

    fn among(alerts: &[(i64, i64)], windows: &[(i64, i64)]) -> Self {
        let delays = |all: &[(i64, i64)]| all.iter().map(|(told, at)| (at - told) / 1_000_000).collect();
        let count = |is: fn((i64, i64), (i64, i64)) -> bool| {
            alerts.iter().filter(|alert| windows.iter().any(|window| is(**alert, *window))).count() as u64
        };
        Self {
            alerts: delays(alerts),
            windows: delays(windows),
            overtook: count(|alert, window| window.0 < alert.0 && alert.1 < window.1),
            overtaken: count(|alert, window| alert.0 < window.0 && window.1 < alert.1),
        }
    }
}

/// Median and maximum.
fn spread(mut all: Vec<i64>) -> serde_json::Value {
    all.sort_unstable();
    serde_json::json!({"p50": all.get(all.len() / 2), "max": all.last()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_before_whom_is_counted() {
        let ms = |told: i64, at: i64| (told * 1_000_000, at * 1_000_000);
        let windows = [ms(0, 50), ms(5, 60)];
        let first = Order::among(&[ms(10, 20)], &windows);
        assert_eq!(first, Order { alerts: vec![10], windows: vec![50, 55], overtook: 1, overtaken: 0 });
        assert_eq!(Order::among(&[ms(1, 70)], &windows).overtaken, 1);
        assert_eq!(Order::among(&[ms(70, 80)], &windows), Order { alerts: vec![10], overtook: 0, ..first });
        assert_eq!(spread(vec![3, 1, 2]), serde_json::json!({"p50": 2, "max": 3}));
    }
}
