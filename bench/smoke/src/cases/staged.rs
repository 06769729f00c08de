//! A stage without a bus: made from its shipped defaults, and messages through it.

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use eddy_runtime::{
    config,
    stage::{Batch, Incoming, Outbox, Scope, Stage},
};

use crate::callgrind::FIXTURES;

/// Bytes of an output: more than any case makes.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Where all cases play.
pub fn scope() -> Scope {
    Scope { site: "smoke".into(), shard: 0, shards: 1 }
}

/// Where a case finds the default bundle.
pub fn default_bundle() -> String {
    format!("{FIXTURES}/bundles/default")
}

/// And its signer's key.
pub fn default_key() -> String {
    format!("{FIXTURES}/bundles/default.pub")
}

/// A stage with its defaults, and `changes` as the environment would make them (`EDDY_<STAGE>_<KEY>`).
pub fn stage<S: Stage>(changes: &[(&str, &str)]) -> Result<S> {
    let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let (_, own) = config::load::<S::Config>(S::SPEC.name, S::DEFAULTS, None, changes)?;
    S::new(own, &scope()).map_err(|problems| anyhow!(problems.join("\n")))
}

/// A message on the stage's (first) input.
pub fn incoming<S: Stage>(payload: Vec<u8>) -> Incoming {
    let input = &S::SPEC.inputs[0];
    Incoming {
        stream: input.stream.into(),
        subject: format!("{}.smoke.0", input.prefix),
        sequence: 1,
        stored_at: crate::made::START,
        content_type: None,
        payload: Bytes::from(payload),
    }
}

/// A message and what it says.
pub type Read<S> = (Incoming, <S as Stage>::Input);

/// A decoded message, of which nothing may be refused.
pub fn decoded<S: Stage>(stage: &S, message: &Incoming) -> Result<S::Input> {
    stage.decode(message).map_err(|(reason, detail)| anyhow!("{reason:?}: {detail}"))
}

/// An empty outbox of a stage.
pub fn outbox<S: Stage>(stage: &S) -> Outbox<S::Output> {
    Outbox::new(stage.outputs(), OUTPUT_BYTES_MAX)
}

/// All rows of decoded messages through a stage.
pub fn process<S: Stage>(stage: &mut S, messages: &[Read<S>], out: &mut Outbox<S::Output>) -> Result<u64> {
    let mut rows = 0;
    for (message, input) in messages {
        let reached = stage.process(message, input, 0..S::rows(input), out);
        ensure!(reached == S::rows(input), "row {reached} of {} was reached", S::rows(input));
        rows += reached as u64;
    }
    Ok(rows)
}

/// Messages, decoded.
pub fn all_decoded<S: Stage>(stage: &S, payloads: Vec<Vec<u8>>) -> Result<Vec<Read<S>>> {
    let messages = payloads.into_iter().map(incoming::<S>);
    messages.map(|message| decoded(stage, &message).map(|input| (message, input))).collect()
}

/// Checks that nothing was put aside, and that there is as much output as there must be at least.
pub fn check<B: Batch>(out: &Outbox<B>, rows_min: u64) -> Result<()> {
    let rows = out.main.iter().map(Batch::rows).sum::<usize>() as u64;
    let aside = (out.rejected.len(), out.late.len(), out.duplicates);
    ensure!(aside == (0, 0, 0), "rejected, late, duplicates: {aside:?}");
    ensure!(rows >= rows_min, "{rows} rows came out, not {rows_min}");
    Ok(())
}
