//! What the region answers: to gRPC and to requests over NATS alike.
//!
//! Every process answers everything. What it leads it answers itself; for the rest it asks the leaders (`peers.rs`), as long as there is
//! time, and puts the answers together (`merge.rs`). Who is asked for what stands in `plan.rs`; what one shard says, in
//! `local.rs`. A shard whose leader does not answer in time is named: an answer is whole, or says what it lacks.

mod asked;
mod call;
mod everywhere;
mod local;
mod merge;
mod peers;
mod plan;
mod refusal;
mod region;
mod shards;

use std::sync::Arc;

use eddy_runtime::clock::Clock;
use eddy_schemas::{
    names,
    region::wire::{
        GetWindowRequest, GetWindowResponse, LabelRequest, LabelResponse, ReceiptsRequest, ReceiptsResponse,
        SearchRequest, SearchResponse, StatsRequest, StatsResponse,
    },
};
use eddy_vectors::index::Recall;
use tokio::time::{Instant, timeout_at};

pub use self::{
    asked::{COMPONENTS_MAX, NEIGHBOURS_MAX},
    call::Call,
    peers::{FOR, OWN_ONLY, Peers},
    refusal::{Refusal, Why},
    region::{Leader, Region, Said, Shard},
};
use self::{
    asked::{Like, Search, Which},
    peers::passed_on,
    plan::{Plan, Room},
};

/// Bounds of answering.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Calls at the same time; what comes then is refused.
    pub calls: usize,
    /// Shards' stores that are asked at the same time; others wait.
    pub at_once: usize,
    /// The recall of searches that ask for none.
    pub recall: f32,
}

/// Answers.
pub struct Answers {
    region: Arc<dyn Region>,
    peers: Peers,
    clock: Arc<dyn Clock>,
    room: Room,
    recall: Recall,
}

impl Answers {
    /// Answers for a region.
    pub fn new(region: Arc<dyn Region>, peers: Peers, clock: Arc<dyn Clock>, bounds: Bounds) -> Self {
        let recall = if bounds.recall < 1.0 { Recall::AtLeast(bounds.recall) } else { Recall::Exact };
        Self { region, peers, clock, room: Room::new(bounds.calls, bounds.at_once), recall }
    }

    /// The nearest windows.
    ///
    /// # Errors
    /// What is wrong with the request; or that no shard answered.
    pub async fn search(&self, call: &Call, request: &SearchRequest) -> Result<SearchResponse, Refusal> {
        let (began, _place) = (Instant::now(), self.room.call()?);
        let mut asked = Search::new(request, self.region.count())?;
        let (vector, own) = match std::mem::replace(&mut asked.like, Like::Vector(Vec::new())) {
            Like::Vector(vector) => (vector, None),
            Like::Alert(alert, sites) => {
                let own = self.alerted(call, &alert, &sites, asked.shards.as_ref()).await?;
                // Vectors of two models are never compared.
                if asked.bundle.as_ref().is_some_and(|bundle| *bundle != own.bundle) {
                    let (bundle, other) = (&own.bundle, asked.bundle.unwrap_or_default());
                    return Err(Refusal::wrong(format!("bundle = {other}: the window of alert {alert} is {bundle}'s")));
                }
                asked.bundle = Some(own.bundle);
                // It is its own nearest.
                asked.k += 1;
                (own.vector, own.window)
            }
        };
        let vector: Arc<[f32]> = vector.into();
        let answers = self.one_bundle(call, request, &mut asked, &vector).await?;
        let without = own.as_ref().map(|own| (own.shard, own.number));
        let k = asked.k - usize::from(own.is_some());
        let mut answer = merge::nearest(answers, k, without);
        answer.like = own;
        answer.took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        call.tell(format_args!("{} neighbours of {} windows", answer.neighbours.len(), answer.windows));
        if !answer.missing_shards.is_empty() {
            call.tell(format_args!("without shards {:?}", answer.missing_shards));
        }
        Ok(answer)
    }

    /// A window with its vector.
    ///
    /// # Errors
    /// That there is none, or that its shard's leader does not answer.
    pub async fn window(&self, call: &Call, request: &GetWindowRequest) -> Result<GetWindowResponse, Refusal> {
        let _place = self.room.call()?;
        match Which::new(request, self.region.count())? {
            Which::Alert(alert, sites) => self.alerted(call, &alert, &sites, None).await,
            Which::Number(shard, number) => {
                let missing = || Refusal::new(Why::Missing, format!("no window {number} in shard {shard}"));
                let plan = self.plan_of(call, shard)?;
                if let Some((_, led)) = plan.here.into_iter().next() {
                    let found = move |_: &dyn Fn() -> bool| {
                        let found = local::window(shard, &*led, number)?;
                        found.map(|found| local::get(&*led, found)).transpose()
                    };
                    return self.room.work(call.deadline, found).await?.ok_or_else(missing);
                }
                let (leader, _) = plan.there.first().ok_or_else(|| nobody(shard))?;
                let mut client = self.peers.client(leader, &plan.leaders)?;
                let asked = client.get_window(passed_on(request.clone(), call, call.others_until()));
                Ok(timeout_at(call.deadline, asked).await.map_err(|_| Refusal::too_late())??.into_inner())
            }
        }
    }

    /// Takes somebody's word about an alert.
    ///
    /// # Errors
    /// What is wrong with it, that there is no such alert, or that it is not known to be stored.
    pub async fn label(&self, call: &Call, request: &LabelRequest) -> Result<LabelResponse, Refusal> {
        let _place = self.room.call()?;
        let said = asked::said(request, format!("hub/{}", call.who), self.clock.now())?;
        let shard = names::shard_of(&said.device, self.region.count());
        let plan = self.plan_of(call, shard)?;
        let perhaps =
            || Refusal::new(Why::TooLate, "not within the deadline: it may be stored; saying it again changes nothing");
        let holds = if let Some((_, led)) = plan.here.into_iter().next() {
            timeout_at(call.deadline, led.label(said)).await.map_err(|_| perhaps())??
        } else {
            let (leader, _) = plan.there.first().ok_or_else(|| nobody(shard))?;
            let mut client = self.peers.client(leader, &plan.leaders)?;
            // Said now: the leader's clock may differ.
            let request = LabelRequest { time: said.time, ..request.clone() };
            let asked = client.label(passed_on(request, call, call.others_until()));
            timeout_at(call.deadline, asked).await.map_err(|_| perhaps())??.into_inner().holds
        };
        call.tell(format_args!("{}", if holds { "it holds" } else { "a later word holds" }));
        Ok(LabelResponse { holds })
    }

    /// What the region can prove.
    ///
    /// # Errors
    /// What is wrong with the request; or that no shard answered.
    pub async fn receipts(&self, call: &Call, request: &ReceiptsRequest) -> Result<ReceiptsResponse, Refusal> {
        if !request.site.is_empty() && !names::is_valid(&request.site) {
            return Err(Refusal::wrong(format!(
                "site = {:?}: 1 to 128 bytes (percent-encoded) are taken",
                request.site
            )));
        }
        let _place = self.room.call()?;
        let mut answer = self.all_receipts(call, request).await?;
        answer.chains.retain(|chain| request.site.is_empty() || chain.site == request.site);
        call.tell(format_args!("{} chains", answer.chains.len()));
        if !answer.missing_shards.is_empty() {
            call.tell(format_args!("without shards {:?}", answer.missing_shards));
        }
        Ok(answer)
    }

    /// Shards, leaders, sizes, positions.
    ///
    /// # Errors
    /// That a store cannot be read.
    pub async fn stats(&self, call: &Call, request: &StatsRequest) -> Result<StatsResponse, Refusal> {
        let _place = self.room.call()?;
        self.all_stats(call, request).await
    }

    /// Who is asked for one shard.
    fn plan_of(&self, call: &Call, shard: u32) -> Result<Plan, Refusal> {
        let plan = Plan::new(&*self.region, Some(&[shard].into()), call.own_only);
        if plan.nowhere.is_empty() { Ok(plan) } else { Err(nobody(shard)) }
    }
}

fn nobody(shard: u32) -> Refusal {
    Refusal::new(Why::Unavailable, format!("shard {shard} has no leader now: ask again in a few seconds"))
}

#[cfg(test)]
pub(crate) mod tests;
