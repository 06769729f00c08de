//! What is done next for a wish: a function of what is wanted, what is seen, and what was done.

use eddy_schemas::{
    BundleAction, ShadowReport,
    models::{Desired, Phase},
};

use super::Limits;

/// What a rehearsal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rehearsal {
    /// Nothing speaks against the bundle; in words.
    Passed(String),
    /// Why it is not taken.
    Refused(String),
}

/// What was done for the wish in hand; forgotten with the process, and then done again, which changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Its rehearsal.
    pub rehearsal: Option<Rehearsal>,
    /// The control for it that was said last.
    pub said: Option<BundleAction>,
    /// Whether it was refused, in words.
    pub refused: Option<String>,
    /// Other bundles that were sent out of the shadow.
    pub retired: Vec<String>,
}

/// What is done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// The bundle is rehearsed; `fit_only`: it is only tried whether it runs at all.
    Rehearse {
        /// See above.
        fit_only: bool,
    },
    /// A control about the bundle is said.
    Say(BundleAction),
    /// Nothing; it is so far.
    Stand(Phase, String),
}

/// What is done next for `wish`. `is_here`: the bundle lies in the gateway's folder. `is_active`: some shard is judged by it already.
/// `shadow`: how it does in the shadow.
pub fn next(
    wish: &Desired,
    is_here: bool,
    is_active: bool,
    shadow: Option<&ShadowReport>,
    done: &Done,
    limits: &Limits,
) -> Next {
    if is_active {
        return Next::Stand(Phase::Active, "it judges".into());
    }
    if let Some(reason) = &done.refused {
        return match shadow {
            Some(_) if done.said != Some(BundleAction::Retire) => Next::Say(BundleAction::Retire),
            _ => Next::Stand(Phase::Refused, reason.clone()),
        };
    }
    if done.said == Some(BundleAction::Activate) {
        return Next::Stand(Phase::Shadow, "it takes over with the next readings".into());
    }
    let Some(report) = shadow else {
        return match &done.rehearsal {
            _ if done.said.is_some() => Next::Stand(Phase::Shadow, "it begins with the next readings".into()),
            _ if !is_here => Next::Stand(Phase::Waiting, "it is not in the gateway's folder of bundles yet".into()),
            None => Next::Rehearse { fit_only: wish.at_once },
            Some(Rehearsal::Refused(reason)) => Next::Stand(Phase::Refused, reason.clone()),
            Some(Rehearsal::Passed(_)) if wish.at_once => Next::Say(BundleAction::Activate),
            Some(Rehearsal::Passed(_)) => Next::Say(BundleAction::Stage),
        };
    };
    if wish.at_once {
        return Next::Say(BundleAction::Activate);
    }
    let ShadowReport { series, warm, rows, opened, told, .. } = *report;
    if warm * 100 < limits.warm_percent * series || rows < warm.max(1) * limits.shadow_rows {
        let words = format!("it learns: {warm} of {series} series are past commissioning, with {rows} rows since");
        return Next::Stand(Phase::Shadow, words);
    }
    match too_many(opened, told, limits.alerts_factor) {
        Some(reason) => Next::Stand(Phase::Refused, format!("in the shadow, over {rows} rows: {reason}")),
        None => Next::Say(BundleAction::Activate),
    }
}

/// Why `opened` alerts are too many beside the `told` ones of the active bundle, if they are: more than `factor` times as many, and two
/// standard deviations of such a count on top.
fn too_many(opened: u64, told: u64, factor: f64) -> Option<String> {
    let expected = factor * told as f64;
    let most = expected + 2.0 * expected.max(1.0).sqrt();
    (opened as f64 > most).then(|| {
        format!(
            "it would have opened {opened} alerts where the active one opened {told}; at most {most:.0} are let pass"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(at_once: bool) -> Desired {
        Desired { digest: "d".into(), origin: "cli".into(), time: 1, at_once }
    }

    fn limits() -> Limits {
        Limits {
            warm_percent: 90,
            shadow_rows: 10,
            alerts_factor: 2.0,
            window_budget_us: 50.0,
            rehearsal_rows: 1,
            retire_after_h: 1.0,
        }
    }

    fn report(series: u64, warm: u64, rows: u64, opened: u64, told: u64) -> ShadowReport {
        ShadowReport { bundle: "d".into(), series, warm, rows, opened, told, was_active: false }
    }

    #[test]
    fn a_plain_wish_is_rehearsed_staged_and_waits_until_it_is_warm() {
        let (mut done, plain) = (Done::default(), wish(false));
        let next =
            |shadow: Option<ShadowReport>, done: &Done| next(&plain, true, false, shadow.as_ref(), done, &limits());
        let away = super::next(&plain, false, false, None, &done, &limits());
        assert!(matches!(away, Next::Stand(Phase::Waiting, _)), "{away:?}");
        assert_eq!(next(None, &done), Next::Rehearse { fit_only: false });
        done.rehearsal = Some(Rehearsal::Passed("fine".into()));
        assert_eq!(next(None, &done), Next::Say(BundleAction::Stage));
        done.said = Some(BundleAction::Stage);
        assert!(matches!(next(None, &done), Next::Stand(Phase::Shadow, words) if words.contains("next readings")));
        for cold in [report(0, 0, 0, 0, 0), report(10, 8, 500, 0, 0), report(10, 9, 89, 0, 0)] {
            assert!(matches!(next(Some(cold), &done), Next::Stand(Phase::Shadow, words) if words.contains("learns")));
        }
        assert_eq!(next(Some(report(10, 9, 90, 0, 0)), &done), Next::Say(BundleAction::Activate));
        done.said = Some(BundleAction::Activate);
        let words = next(Some(report(10, 9, 90, 0, 0)), &done);
        assert!(
            matches!(words, Next::Stand(Phase::Shadow, words) if words.contains("takes over with the next readings"))
        );
        let active = super::next(&plain, true, true, None, &done, &limits());
        assert!(matches!(active, Next::Stand(Phase::Active, _)));
    }

    #[test]
    fn what_is_refused_is_taken_out_of_the_shadow_and_stays_refused() {
        let mut done = Done { refused: Some("noisy".into()), said: Some(BundleAction::Stage), ..Done::default() };
        let shadow = report(1, 1, 100, 50, 0);
        assert_eq!(next(&wish(false), true, false, Some(&shadow), &done, &limits()), Next::Say(BundleAction::Retire));
        done.said = Some(BundleAction::Retire);
        // Until the next readings it is still to be seen there.
        for shadow in [Some(&shadow), None] {
            let stands = next(&wish(false), true, false, shadow, &done, &limits());
            assert_eq!(stands, Next::Stand(Phase::Refused, "noisy".into()));
        }
        let rehearsed = Done { rehearsal: Some(Rehearsal::Refused("slow".into())), ..Done::default() };
        let stands = next(&wish(false), true, false, None, &rehearsed, &limits());
        assert_eq!(stands, Next::Stand(Phase::Refused, "slow".into()));
    }

    #[test]
    fn who_is_in_a_hurry_gets_what_runs_at_once_warm_or_not() {
        let next = |shadow: Option<&ShadowReport>, done: &Done| next(&wish(true), true, false, shadow, done, &limits());
        assert_eq!(next(None, &Done::default()), Next::Rehearse { fit_only: true });
        let fits = Done { rehearsal: Some(Rehearsal::Passed("it runs".into())), ..Done::default() };
        assert_eq!(next(None, &fits), Next::Say(BundleAction::Activate));
        assert_eq!(next(Some(&report(10, 0, 0, 0, 0)), &Done::default()), Next::Say(BundleAction::Activate));
    }

    #[test]
    fn a_few_alerts_more_are_chance_and_many_are_a_reason() {
        for (opened, told, is_taken) in [(0, 0, true), (2, 0, true), (3, 0, false), (28, 10, true), (29, 10, false)] {
            assert_eq!(too_many(opened, told, 2.0).is_none(), is_taken, "{opened} where {told}");
        }
        let shadow = report(10, 10, 1_000, 3, 0);
        let next = next(&wish(false), true, false, Some(&shadow), &Done::default(), &limits());
        assert!(
            matches!(next, Next::Stand(Phase::Refused, words) if words.contains("3 alerts where the active one opened 0"))
        );
    }
}
