//! The link's estimate against a simulated link: one queue of a given rate, with half a round trip on either side.

use std::collections::VecDeque;

use super::*;

const MS: Duration = Duration::from_millis(1);
/// An alert's payload.
const ALERT: usize = 700;

/// A link: what is sent leaves its queue one after the other.
struct Wire {
    rate: f64,
    round_trip: Duration,
    free_at: Instant,
    /// When the last one arrived: a shorter way overtakes nothing.
    arrived: Instant,
    busy: Duration,
}

impl Wire {
    /// When it arrives on the other side.
    fn carry(&mut self, bytes: u64, now: Instant) -> Instant {
        let takes = Duration::from_secs_f64(bytes as f64 / self.rate);
        self.free_at = self.free_at.max(now) + takes;
        self.busy += takes;
        self.arrived = self.arrived.max(self.free_at + self.round_trip / 2);
        self.arrived
    }
}

struct Seen {
    /// Which part of the time the link was busy.
    used: f64,
    /// How long alerts took to arrive, sorted.
    alerts: Vec<Duration>,
}

impl Seen {
    fn median(&self) -> Duration {
        self.alerts[self.alerts.len() / 2]
    }
}

struct World {
    /// The region's disk takes up to so long; the higher, the more rarely it is near that.
    disk: Duration,
    rarely: i32,
    random: u64,
    now: Instant,
    wire: Wire,
    link: Link,
    flights: VecDeque<(Instant, Ticket)>,
    next_alert: Instant,
    alerts: u32,
}

impl World {
    fn new(rate: f64, round_trip: Duration) -> Self {
        let now = Instant::now();
        let wire = Wire { rate, round_trip, free_at: now, arrived: now, busy: Duration::ZERO };
        Self {
            disk: Duration::ZERO,
            rarely: 30,
            random: 1,
            now,
            wire,
            link: Link::new(100 * MS, now),
            flights: VecDeque::new(),
            next_alert: now + 333 * MS,
            alerts: 0,
        }
    }

    fn send(&mut self, payload: usize) -> Duration {
        let bytes = on_the_wire(payload);
        let ticket = self.link.sent(bytes, self.now);
        let arrives = self.wire.carry(bytes, self.now);
        // xorshift64: mostly short, now and then long.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random % 1_000) as f64 / 1_000.0;
        let stored = arrives + self.disk.mul_f64(share.powi(self.rarely));
        self.wire.arrived = stored;
        self.flights.push_back((stored + self.wire.round_trip / 2, ticket));
        stored - self.now
    }

    /// Bulk without an end, an alert every now and then.
    fn run(&mut self, time: Duration) -> Seen {
        let (until, began, busy) = (self.now + time, self.now, self.wire.busy);
        let mut alerts = Vec::new();
        while self.now < until {
            if self.now >= self.next_alert {
                alerts.push(self.send(ALERT));
                self.alerts += 1;
                // No multiple of a round, so that it meets every phase.
                self.next_alert += 411 * MS + 7 * MS * (self.alerts % 5);
            }
            while self.link.has_room() {
                let batch = self.link.batch();
                self.send(batch);
            }
            let acked = self.flights.front().map_or(self.next_alert, |(at, _)| *at);
            self.now = acked.min(self.next_alert);
            while let Some((_, ticket)) = self.flights.pop_front_if(|(at, _)| *at <= self.now) {
                self.link.acked(&ticket, self.now);
            }
        }
        alerts.sort_unstable();
        Seen { used: (self.wire.busy - busy).as_secs_f64() / (self.now - began).as_secs_f64(), alerts }
    }
}

#[test]
fn bulk_fills_a_link_and_alerts_pass_it() {
    for (rate, round_trip) in [(65_536.0, 20), (65_536.0, 300), (8_192.0, 100), (1e6, 50), (1e7, 2), (2e5, 650)] {
        let mut world = World::new(rate, round_trip * MS);
        world.run(Duration::from_secs(10));
        let seen = world.run(Duration::from_secs(120));
        let waited = seen.median() - round_trip * MS / 2;
        println!(
            "{rate:>9} B/s, {round_trip} ms: {:.1}% used, an alert takes {:?} at the median, {:?} at most; cap {}, batch {}, rate {:.0}",
            100.0 * seen.used,
            seen.median(),
            seen.alerts.last().unwrap(),
            world.link.cap(),
            world.link.batch(),
            world.link.rate(),
        );
        assert!(seen.used > 0.9, "{}", seen.used);
        // Beside the way itself and its own bytes; two of the smallest messages are longer than the target at 8 KB/s.
        assert!(waited < if rate < 10_000.0 { 300 * MS } else { 150 * MS }, "{waited:?}");
        assert!(round_trip > 20 || seen.median() < 150 * MS);
    }
}

#[test]
fn a_disk_that_stalls_now_and_then_does_not_mislead() {
    // A disk that is slow all the time (22 ms on average, up to 200) is taken for a slow link now and then. It costs a sixth of a slow
    // link, and three tenths of one of a megabyte a second (81.6%, 82.7% and 71.3% are used): that is open.
    for (rarely, used) in [(30, 0.85), (8, 0.7)] {
        for (rate, round_trip) in [(65_536.0, 20), (65_536.0, 300), (1e6, 50)] {
            let mut world = World::new(rate, round_trip * MS);
            (world.disk, world.rarely) = (200 * MS, rarely);
            world.run(Duration::from_secs(10));
            let seen = world.run(Duration::from_secs(120));
            println!("{rarely}: {rate} B/s, {round_trip} ms: {:.1}% used, {:?}", 100.0 * seen.used, seen.median());
            assert!(seen.used > used, "{rarely} {rate} {round_trip}: {}", seen.used);
            assert!(seen.median() - round_trip * MS / 2 < 250 * MS, "{rate} {round_trip}: {:?}", seen.median());
        }
    }
}

#[test]
fn it_follows_a_link_that_changes() {
    let mut world = World::new(65_536.0, 20 * MS);
    world.run(Duration::from_secs(20));
    for (rate, round_trip) in [(16_384.0, 20), (524_288.0, 20), (524_288.0, 200), (65_536.0, 20), (65_536.0, 300)] {
        world.wire.rate = rate;
        world.wire.round_trip = round_trip * MS;
        // A round trip that became longer is believed once the old one is old.
        world.run(Duration::from_secs(40));
        let seen = world.run(Duration::from_secs(60));
        println!("{rate} B/s, {round_trip} ms: {:.1}% used, {:?} at the median", 100.0 * seen.used, seen.median());
        assert!(seen.used > 0.9, "{rate} {round_trip}: {}", seen.used);
        assert!(seen.median() - round_trip * MS / 2 < 150 * MS, "{rate} {round_trip}: {:?}", seen.median());
    }
}

#[test]
fn what_is_forgotten_is_measured_anew() {
    let mut world = World::new(65_536.0, 300 * MS);
    world.run(Duration::from_secs(20));
    world.link.forget();
    assert_eq!((world.link.rate(), world.link.cap()), (0.0, FIRST_BYTES));
    // With what is still on its way.
    world.run(Duration::from_secs(10));
    assert!(world.run(Duration::from_secs(20)).used > 0.9);
}

#[test]
fn nothing_to_send_says_nothing_against_the_link() {
    let mut world = World::new(65_536.0, 50 * MS);
    world.run(Duration::from_secs(20));
    let (rate, cap) = (world.link.rate(), world.link.cap());
    for _ in 0..100 {
        world.send(100);
        world.link.starved();
        let (at, ticket) = world.flights.pop_back().unwrap();
        while let Some((at, ticket)) = world.flights.pop_front() {
            world.link.acked(&ticket, at);
        }
        world.now = at;
        world.link.acked(&ticket, at);
        world.now += 100 * MS;
    }
    assert!(
        world.link.rate() >= rate && world.link.cap() * 10 >= cap * 9,
        "{} {}",
        world.link.rate(),
        world.link.cap()
    );
}

#[test]
fn what_is_on_its_way_is_bounded_and_lost_messages_give_their_room_back() {
    let now = Instant::now();
    let mut link = Link::new(100 * MS, now);
    let mut tickets = Vec::new();
    while link.has_room() {
        tickets.push(link.sent(on_the_wire(link.batch()), now));
    }
    assert!(link.in_flight() <= FIRST_BYTES && tickets.len() > 1);
    let before = link.in_flight();
    assert!(link.has_urgent_room(0) && link.has_urgent_room(before) && !link.has_urgent_room(URGENT_BYTES));
    tickets.iter().for_each(|ticket| link.lost(ticket));
    assert_eq!(link.in_flight(), 0);
    // A link that seems to have no bound has one.
    for round in 1..200 {
        let ticket = link.sent(1 << 20, now);
        link.acked(&ticket, now + Duration::from_micros(round));
    }
    assert_eq!((link.cap(), link.batch()), (IN_FLIGHT_BYTES.1, BATCH_BYTES.1));
}
