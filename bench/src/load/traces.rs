//! `traces`: what traces cost the path to an alert, by CPU time a row, without them and with them in the same run.
//!
//! One gateway; in each round its four stages are started anew in each of the ways, and each works off the same number of rows. CPU
//! time, and not the clock's: other work on the machine is no part of it. A round's ratio is to the mean of its two stretches without traces;
//! these two beside each other show what chance does.

use std::time::Instant;

use anyhow::{Result, bail};
use eddy_runtime::clock::{Clock as _, SystemClock};
use serde_json::{Map, Value, json};

use super::{
    Common,
    binaries::Binaries,
    feed::{self, ARROW},
    figures::rounded,
    gateway::{Gateway, HOPS},
    plan::Plan,
    sensors::Sensors,
    sink::Sink,
    throughput::{CHANNELS, MESSAGE_ROWS, STEP, arrow, send},
    usage::Meter,
};

/// `traces`' part of the command line.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TracesArgs {
    /// Series
    #[arg(long, default_value_t = 999)]
    series: usize,
    /// Readings that each way works off in a round
    #[arg(long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(10_000..=20_000_000))]
    rows: u64,
    /// Rounds
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=100))]
    rounds: u64,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A way to run the stages. `None`: without a collector; else how many traces may begin a second (`""`: as shipped).
const WAYS: [(&str, Option<&str>); 4] =
    [("off", None), ("default", Some("")), ("all", Some("1000000")), ("off_too", None)];

/// What one way used in one round.
struct Cost {
    /// Microseconds of the four stages a row.
    stages_us: f64,
    /// The same with the server.
    total_us: f64,
    rows_per_s: f64,
}

/// Runs it.
///
/// # Errors
/// Bad arguments, a gateway that does not come up or does not keep going.
pub(crate) async fn run(args: &TracesArgs, binaries: &Binaries) -> Result<Value> {
    if args.series < CHANNELS {
        bail!("--series: at least {CHANNELS}");
    }
    let sensors = Sensors::new(args.series / CHANNELS, CHANNELS);
    let warm = args.common.warm_rows();
    let rows_each = args.rows / sensors.series() as u64 + 1;
    let ways = WAYS.len() as u64;
    let began = SystemClock.now() - ((warm + rows_each * ways * args.rounds + 400) as i64) * STEP;
    let plan = Plan {
        series: sensors.series(),
        shards: 1,
        commissioning_rows: args.common.commissioning_rows,
        roomy: true,
        parent: args.common.folder(),
    };
    let collector = Sink::start()?;
    let mut gateway = Gateway::start(binaries, &plan).await?;
    super::say(&format!("traces: warming up with {warm} rows of each of {} series", plan.series));
    feed::bulk(&mut gateway, &sensors, 0..warm, began, STEP).await?;
    // Not on the path, and it works on after the path is through.
    gateway.suspend("index").await?;
    let mut costs: [Vec<Cost>; WAYS.len()] = Default::default();
    let mut row = warm;
    for round in 0..args.rounds {
        for turn in 0..ways {
            // Each way comes first, second and so on equally often.
            let way = ((turn + round) % ways) as usize;
            super::say(&format!("round {} of {}: {}", round + 1, args.rounds, WAYS[way].0));
            let batches = arrow(&sensors, row, began + row as i64 * STEP, args.rows / MESSAGE_ROWS);
            costs[way].push(measure(&mut gateway, WAYS[way].1, &collector, &batches).await?);
            row += rows_each;
        }
    }
    let [off, .., again] = &costs;
    let baseline: Vec<Cost> = off.iter().zip(again).map(|(one, other)| one.mean(other)).collect();
    let ways = WAYS.iter().zip(&costs).map(|((name, _), own)| ((*name).to_owned(), told(own, &baseline)));
    Ok(json!({
        "mode": "traces",
        "profile": binaries.profile(),
        "series": sensors.series(),
        "rows": args.rows,
        "rounds": args.rounds,
        "collector_requests": collector.requests(),
        "collector_kb": collector.bytes() / 1024,
        "ways": ways.collect::<Map<_, _>>(),
    }))
}

impl Cost {
    fn mean(&self, other: &Self) -> Self {
        let mean = |of: fn(&Self) -> f64| (of(self) + of(other)) / 2.0;
        Self {
            stages_us: mean(|cost| cost.stages_us),
            total_us: mean(|cost| cost.total_us),
            rows_per_s: mean(|cost| cost.rows_per_s),
        }
    }
}

async fn measure(
    gateway: &mut Gateway,
    per_second: Option<&str>,
    collector: &Sink,
    batches: &[bytes::Bytes],
) -> Result<Cost> {
    let mut environment = Vec::new();
    if let Some(per_second) = per_second {
        environment.push(("EDDY_TELEMETRY_TRACES_ENDPOINT", collector.url()));
        if !per_second.is_empty() {
            environment.push(("EDDY_TELEMETRY_TRACES_PER_SECOND", per_second.to_owned()));
        }
    }
    for hop in &HOPS {
        gateway.suspend(hop.stage).await?;
    }
    for hop in &HOPS {
        gateway.resume_with(hop.stage, "EDDY_TELEMETRY_TRACES_", &environment)?;
    }
    // One message brings all stages to where they work: what starting costs is no part of it.
    let (first, rest) = batches.split_at(1);
    send(gateway, &feed::subject(), ARROW, first).await?;
    gateway.settle(HOPS.len()).await?;
    let (meter, began) = (Meter::start(gateway.pids()), Instant::now());
    send(gateway, &feed::subject(), ARROW, rest).await?;
    gateway.settle(HOPS.len()).await?;
    let (used, seconds) = (meter.stop(), began.elapsed().as_secs_f64());
    let rows = (rest.len() as u64 * MESSAGE_ROWS) as f64;
    let of = |name: &str| used.processes.get(name).map_or(0.0, |(cpu, _)| *cpu);
    Ok(Cost {
        stages_us: HOPS.iter().map(|hop| of(hop.stage)).sum::<f64>() / rows * 1e6,
        total_us: used.cpu_s_total() / rows * 1e6,
        rows_per_s: rows / seconds,
    })
}

/// Medians, and how a way compares with `off`, round by round.
fn told(own: &[Cost], off: &[Cost]) -> Value {
    let median = |of: &dyn Fn(&Cost) -> f64| rounded(middle(own.iter().map(of).collect()));
    let ratios =
        |of: &dyn Fn(&Cost) -> f64| -> Vec<f64> { own.iter().zip(off).map(|(own, off)| of(own) / of(off)).collect() };
    let (stages, total) = (ratios(&|cost| cost.stages_us), ratios(&|cost| cost.total_us));
    let (least, most) =
        stages.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(*one), most.max(*one)));
    let four = |ratio: f64| (ratio * 1e4).round() / 1e4;
    json!({
        "stages_cpu_us_a_row": median(&|cost| cost.stages_us),
        "cpu_us_a_row": median(&|cost| cost.total_us),
        "rows_per_s": median(&|cost| cost.rows_per_s),
        "stages_ratio": four(middle(stages)),
        "stages_ratio_min": four(least),
        "stages_ratio_max": four(most),
        "ratio": four(middle(total)),
    })
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[half],
        _ => (values[half - 1] + values[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_compared_round_by_round() {
        let cost = |us: f64| Cost { stages_us: us, total_us: 2.0 * us, rows_per_s: 1.0 };
        let off = [cost(10.0), cost(20.0), cost(40.0)];
        let on = [cost(11.0), cost(21.0), cost(40.0)];
        let told = told(&on, &off.iter().map(|cost| cost.mean(cost)).collect::<Vec<_>>());
        assert_eq!((&told["stages_ratio"], &told["ratio"]), (&json!(1.05), &json!(1.05)));
        assert_eq!((&told["stages_ratio_min"], &told["stages_ratio_max"]), (&json!(1.0), &json!(1.1)));
        assert_eq!(told["stages_cpu_us_a_row"], json!(21.0));
        assert_eq!(middle(vec![1.0, 4.0, 2.0, 3.0]), 2.5);
    }
}
