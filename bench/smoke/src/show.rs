//! What was found, for people.

use std::fmt::Write as _;

use crate::baseline::{Compared, Verdict};

/// A table, and what is to be done.
pub fn table(compared: &[Compared]) -> String {
    let mut text =
        format!("{:<22}{:>14} {:<10}{:>14}{:>9}  verdict\n", "case", "instructions", "a", "baseline", "ratio");
    for case in compared {
        let number = |x: Option<f64>, digits: usize| x.map_or("-".into(), |x| format!("{x:.digits$}"));
        let Compared { case, unit, now, baseline, ratio, verdict } = case;
        let (now, baseline, ratio) = (number(*now, 1), number(*baseline, 1), number(*ratio, 3));
        let verdict = match verdict {
            Verdict::Ok => "ok",
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::New => "NOT IN THE BASELINE",
            Verdict::Gone => "NOT COUNTED",
        };
        _ = writeln!(text, "{case:<22}{now:>14} {unit:<10}{baseline:>14}{ratio:>9}  {verdict}");
    }
    let any = |of: Verdict| compared.iter().any(|case| case.verdict == of);
    if any(Verdict::Worse) {
        text += "bench-smoke: a case takes over 5 % more instructions than its baseline: mend it, or say in the commit what they buy and\n\
                 write the baseline anew (make bench-smoke-baseline)\n";
    }
    if any(Verdict::New) || any(Verdict::Gone) {
        text += "bench-smoke: baseline and cases are not the same: write it anew (make bench-smoke-baseline)\n";
    }
    if any(Verdict::Better) {
        text += "bench-smoke: a case takes over 5 % fewer instructions than its baseline: write it anew, so that they stay\n\
                 (make bench-smoke-baseline)\n";
    }
    text
}
