//! Streams that are read from their beginning, folded into what they say now.

use std::collections::BTreeMap;

use eddy_runtime::client::StoredMessage;
use eddy_schemas::{
    Readings,
    health::{Condition, Health},
    names,
    side::Rejection,
};

use super::Aside;

/// HEALTH: the last word on each condition of each device.
#[derive(Clone, Debug, Default)]
pub struct Conditions(BTreeMap<(String, Option<String>, Condition), Health>);

impl Conditions {
    /// A condition began or ended.
    pub fn take(&mut self, health: Health) {
        let key = (health.device.clone(), health.channel.clone(), health.condition);
        if health.active {
            self.0.insert(key, health);
        } else {
            self.0.remove(&key);
        }
    }

    /// Those that hold.
    pub fn active(&self) -> Vec<Health> {
        self.0.values().cloned().collect()
    }
}

/// What a message of SIDE says of the stage that put it there.
pub fn aside_of(message: &StoredMessage) -> (String, Aside) {
    let mut tokens = message.subject.split('.');
    let (kind, stage) = (tokens.next().unwrap_or_default(), tokens.nth(1).unwrap_or_default());
    let mut aside = Aside::default();
    if kind == "late" {
        aside.late_readings = Readings::decode(&message.payload).map_or(0, |batch| batch.rows.len() as u64);
    } else if let Ok(rejections) = serde_json::from_slice::<Vec<Rejection>>(&message.payload) {
        for rejection in &rejections {
            *aside.refused.entry(rejection.reason.as_str().to_owned()).or_default() += 1;
        }
        aside.last_refusal =
            rejections.last().map(|last| format!("{} on {}: {}", last.reason.as_str(), last.subject, last.detail));
    }
    (names::decode(stage), aside)
}

impl Aside {
    /// Adds what was put aside later.
    pub fn add(&mut self, later: Self) {
        self.late_readings += later.late_readings;
        for (reason, count) in later.refused {
            *self.refused.entry(reason).or_default() += count;
        }
        self.last_refusal = later.last_refusal.or(self.last_refusal.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_until_it_ends() {
        let health = |device: &str, active| Health {
            device: device.into(),
            channel: None,
            condition: Condition::Silence,
            active,
            since: 1,
            value: 1.0,
        };
        let mut conditions = Conditions::default();
        [health("a", true), health("b", true), health("a", false)].into_iter().for_each(|one| conditions.take(one));
        assert_eq!(conditions.active(), [health("b", true)]);
    }

    #[test]
    fn what_is_put_aside_adds_up_and_the_last_refusal_stays() {
        let refused = |n| [("malformed".to_owned(), n)].into();
        let mut aside = Aside { late_readings: 1, refused: refused(2), last_refusal: Some("x".into()) };
        aside.add(Aside { late_readings: 3, ..Aside::default() });
        aside.add(Aside { refused: refused(1), last_refusal: Some("y".into()), ..Aside::default() });
        assert_eq!(aside, Aside { late_readings: 4, refused: refused(3), last_refusal: Some("y".into()) });
    }
}
