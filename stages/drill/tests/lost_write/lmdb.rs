//! LMDB as eddy uses it: every committed transaction is there after a cut.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use eddy_drill::lost_write::{Names, Options, Survive};
use heed::{
    CommitOrAbort, Database, Env, EnvOpenOptions, RwTxn,
    byteorder::BigEndian,
    types::{Bytes, U64},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::support::{Bench, Running};

/// Where the writer, a process of its own, finds the folder.
const WRITER: &str = "EDDY_TEST_LMDB_WRITER";
const CUTS: u64 = 20;
/// Records that are kept: the pages of older ones are freed and written again, which a torn write would hurt.
const KEPT: u64 = 50;

type Records = Database<'static, U64<BigEndian>, Bytes>;

fn open(path: &Path) -> (Env, Records) {
    // SAFETY: the file is changed by LMDB alone, through its lock file; the cut happens when nobody has it open.
    let env = unsafe { EnvOpenOptions::new().max_dbs(1).map_size(64 << 20).open(path) }.unwrap();
    let txn = env.write_txn().unwrap();
    let created = env.create_databases_and_commit(txn, |opener, txn| {
        let records = opener.create_database::<U64<BigEndian>, Bytes>(txn, Some("records"))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(records))
    });
    (env, created.unwrap().unwrap_commit())
}

/// A record's bytes follow from its number.
fn value(number: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(number);
    (0..random.random_range(0..20_000)).map(|_| random.random()).collect()
}

/// The number of the last transaction (0: none), after its record and those before it were compared.
fn last(env: &Env, records: Records) -> u64 {
    let txn = env.read_txn().unwrap();
    let found: Vec<_> = records.iter(&txn).unwrap().map(Result::unwrap).collect();
    let last = found.last().map_or(0, |(number, _)| *number);
    let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (last.saturating_sub(KEPT) + 1..=last).collect::<Vec<_>>());
    for (number, bytes) in found {
        assert_eq!(bytes, value(number), "record {number}");
    }
    last
}

fn commit(mut txn: RwTxn, records: Records, number: u64) {
    records.put(&mut txn, &number, &value(number)).unwrap();
    if let Some(old) = number.checked_sub(KEPT) {
        records.delete(&mut txn, &old).unwrap();
    }
    txn.commit().unwrap();
}

/// Not a test by itself: the process that writes until it is killed, and tells of each commit.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(WRITER) else { return };
    let (env, records) = open(path.as_ref());
    for number in last(&env, records) + 1.. {
        commit(env.write_txn().unwrap(), records, number);
        println!("committed {number}");
    }
}

fn start_writer(path: &Path) -> Running {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["lmdb::writer", "--exact", "--nocapture"]).env(WRITER, path).stdout(Stdio::piped());
    Running::start(&mut command)
}

fn options(round: u64) -> Options {
    let survive = if round.is_multiple_of(2) { Survive::Random(round) } else { Survive::None };
    let names = if round % 4 < 2 { Names::AtOnce } else { Names::Strict };
    // So that cuts come while a sync is under way.
    Options { survive, names, sync_takes: Duration::from_millis(3), ..Options::default() }
}

#[test]
fn committed_transactions_survive_cuts() {
    let Some(mut bench) = Bench::mount(options(0)) else { return };
    let mut random = StdRng::seed_from_u64(8);
    let (mut committed, mut dropped, mut torn) = (0, 0, 0);
    for round in 1..=CUTS {
        let path = bench.path("state");
        std::fs::create_dir_all(&path).unwrap();
        let mut writer = start_writer(&path);
        let mut lines = BufReader::new(writer.0.stdout.take().unwrap()).lines();
        let enough = random.random_range(1..120);
        let mut told = 0;
        for line in lines.by_ref().map_while(Result::ok) {
            if let Some(number) = line.strip_prefix("committed ") {
                committed = number.parse().unwrap();
                told += 1;
                if told == enough {
                    break;
                }
            }
        }
        assert_eq!(told, enough, "the writer ended by itself in round {round}");
        // At any moment of what it does next, not just after a commit: most of a commit is its two syncs.
        std::thread::sleep(Duration::from_micros(random.random_range(0..8_000)));
        bench.disk().power_off();
        writer.kill();
        // What it told before it died counts.
        for number in lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("committed ")?.parse().ok()) {
            committed = number;
        }
        // The lock file, which nobody syncs, is no loss.
        let cut = bench.cut();
        torn += u64::from(cut.files > 1);
        dropped += cut.bytes;
        bench.remount(options(round));
        let (env, records) = open(&bench.path("state"));
        let found = last(&env, records);
        assert!(found >= committed, "{found} is the last of {committed} committed, round {round}");
        env.prepare_for_closing().wait();
    }
    eprintln!("{committed} transactions committed, {CUTS} cuts, {torn} in a commit, {dropped} bytes dropped");
    assert!(torn > 0, "no cut came in a commit");
}

#[test]
fn two_processes_share_an_environment() {
    let Some(bench) = Bench::mount(Options::default()) else { return };
    let (env, records) = open(&bench.at());
    let mut writer = start_writer(&bench.at());
    let mut lines = BufReader::new(writer.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    for number in 1..=30_u64 {
        assert!(lines.any(|line| line == format!("committed {number}")));
        // Through this process' map, at once.
        assert!(last(&env, records) >= number);
    }
    // Its lock is robust: who waits for the writer that was killed gets it.
    writer.kill();
    let txn = env.write_txn().unwrap();
    let next = records.last(&txn).unwrap().unwrap().0 + 1;
    commit(txn, records, next);
    assert_eq!(last(&env, records), next);
}
