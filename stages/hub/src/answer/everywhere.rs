//! Asking all shards at once: those that are led here on threads, the others by their leaders.

use std::{collections::BTreeSet, future::Future, sync::Arc};

use eddy_schemas::region::wire::{
    GetWindowRequest, GetWindowResponse, ReceiptsRequest, ReceiptsResponse, SearchRequest, SearchResponse, ShardStats,
    StatsRequest, StatsResponse,
};
use futures_util::future::{join, join_all};
use tokio::time::timeout_at;
use tonic::{Response, Status, transport::Channel};

use super::{
    Answers, Plan, Refusal, Why,
    asked::{NEIGHBOURS_MAX, Search},
    call::Call,
    local, merge,
    peers::passed_on,
    region::{Leader, Shard},
};
use crate::service::region_client::RegionClient;

/// What came of asking everywhere.
struct Heard<H, T> {
    /// From shards that are led here.
    here: Vec<(u32, H)>,
    /// From other leaders, with the shards that they were asked for.
    there: Vec<(Leader, Vec<u32>, T)>,
    missing: Vec<u32>,
}

impl Answers {
    /// Asks all of `plan`, and takes what comes in time.
    async fn ask<H, T, F>(
        &self,
        call: &Call,
        plan: Plan,
        here: impl Fn(u32, &dyn Shard, &dyn Fn() -> bool) -> Result<H, Refusal> + Clone + Send + 'static,
        there: impl Fn(RegionClient<Channel>, Vec<u32>, Call) -> F,
    ) -> Result<Heard<H, T>, Refusal>
    where
        H: Send + 'static,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let others = call.until(call.others_until());
        let own = plan.here.into_iter().map(|(shard, led)| {
            let here = here.clone();
            let work = move |is_over: &dyn Fn() -> bool| here(shard, &*led, is_over);
            let working = self.room.work(others.deadline, work);
            async move { (shard, working.await) }
        });
        let asked = plan.there.into_iter().map(|(leader, shards)| {
            let client = self.peers.client(&leader, &plan.leaders);
            let asked = client.map(|client| there(client, shards.clone(), others.clone()));
            async move {
                let answered = match asked {
                    Err(refusal) => Err(refusal),
                    Ok(asked) => match timeout_at(others.deadline, asked).await {
                        Ok(answered) => answered.map(Response::into_inner).map_err(Refusal::from),
                        Err(_) => Err(Refusal::too_late()),
                    },
                };
                (leader, shards, answered)
            }
        });
        let (own, asked) = join(join_all(own), join_all(asked)).await;
        let mut heard = Heard { here: Vec::new(), there: Vec::new(), missing: plan.nowhere };
        let mut why = None;
        for (shard, answered) in own {
            match answered {
                Ok(answer) => heard.here.push((shard, answer)),
                Err(refusal) => missed(&mut heard.missing, &mut why, &[shard], refusal)?,
            }
        }
        for (leader, shards, answered) in asked {
            match answered {
                Ok(answer) => heard.there.push((leader, shards, answer)),
                Err(refusal) => missed(&mut heard.missing, &mut why, &shards, refusal)?,
            }
        }
        heard.missing.sort_unstable();
        if heard.here.is_empty() && heard.there.is_empty() {
            let none = || Refusal::new(Why::Unavailable, "no shard has a leader now: ask again in a few seconds");
            return Err(why.unwrap_or_else(none));
        }
        Ok(heard)
    }

    /// Searches everywhere; where shards know of different newest bundles, in one of them.
    pub(super) async fn one_bundle(
        &self,
        call: &Call,
        request: &SearchRequest,
        asked: &mut Search,
        vector: &Arc<[f32]>,
    ) -> Result<Vec<SearchResponse>, Refusal> {
        let answers = self.search_all(call, request, asked, vector).await?;
        let named = |answer: &SearchResponse| (!answer.bundle.is_empty()).then(|| answer.bundle.clone());
        let bundles: BTreeSet<String> = answers.iter().filter_map(named).collect();
        if bundles.len() < 2 {
            return Ok(answers);
        }
        // While gateways change to a new bundle: the shard that was asked first has the word.
        asked.bundle = answers.iter().find_map(named);
        self.search_all(call, request, asked, vector).await
    }

    async fn search_all(
        &self,
        call: &Call,
        request: &SearchRequest,
        asked: &Search,
        vector: &Arc<[f32]>,
    ) -> Result<Vec<SearchResponse>, Refusal> {
        let plan = Plan::new(&*self.region, asked.shards.as_ref(), call.own_only || asked.shards.is_some());
        let passed = SearchRequest {
            vector: vector.to_vec(),
            alert: String::new(),
            bundle: asked.bundle.clone().unwrap_or_default(),
            // As many as `NEIGHBOURS_MAX` at most.
            k: (asked.k as u32).min(NEIGHBOURS_MAX),
            ..request.clone()
        };
        let (asked, vector, recall) = (asked.clone(), vector.clone(), self.recall);
        let here = move |shard, led: &dyn Shard, is_over: &dyn Fn() -> bool| {
            local::search(shard, led, &asked, &vector, recall, is_over)
        };
        let there = |mut client: RegionClient<Channel>, shards, call: Call| {
            let request = passed_on(SearchRequest { shards, ..passed.clone() }, &call, call.deadline);
            async move { client.search(request).await }
        };
        let heard: Heard<_, SearchResponse> = self.ask(call, plan, here, there).await?;
        let missing = SearchResponse { missing_shards: heard.missing, ..Default::default() };
        let here = heard.here.into_iter().map(|(_, answer)| answer);
        let there = heard.there.into_iter().map(|(_, _, answer)| answer);
        Ok(here.chain(there).chain([missing]).collect())
    }

    /// The window that opened an alert.
    pub(super) async fn alerted(
        &self,
        call: &Call,
        alert: &str,
        sites: &[String],
        shards: Option<&BTreeSet<u32>>,
    ) -> Result<GetWindowResponse, Refusal> {
        let plan = Plan::new(&*self.region, shards, call.own_only || shards.is_some());
        let owned = (alert.to_owned(), sites.to_vec());
        let here = move |shard, led: &dyn Shard, _: &dyn Fn() -> bool| {
            let found = local::alerted(shard, led, &owned.0, &owned.1)?;
            found.map(|found| local::get(led, found)).transpose()
        };
        let site = sites.first().cloned().unwrap_or_default();
        let there = |mut client: RegionClient<Channel>, _, call: Call| {
            let asked = GetWindowRequest { alert: alert.to_owned(), site: site.clone(), ..Default::default() };
            async move {
                match client.get_window(passed_on(asked, &call, call.deadline)).await {
                    Err(status) if status.code() == tonic::Code::NotFound => Ok(Response::new(Default::default())),
                    answered => answered,
                }
            }
        };
        let heard: Heard<_, GetWindowResponse> = self.ask(call, plan, here, there).await?;
        let here = heard.here.into_iter().filter_map(|(_, found)| found);
        let there = heard.there.into_iter().map(|(_, _, found)| found);
        let of_site = |found: &GetWindowResponse| {
            let site = found.window.as_ref().map(|window| &window.site);
            sites.iter().position(|wanted| Some(wanted) == site).unwrap_or(sites.len())
        };
        let found = here.chain(there).filter(|found| found.window.is_some()).min_by_key(of_site);
        found.ok_or_else(|| match heard.missing.as_slice() {
            [] => Refusal::new(
                Why::Missing,
                format!("no window of alert {alert}: it may have aged out, or not have come yet"),
            ),
            missing => Refusal::new(
                Why::Unavailable,
                format!("no window of alert {alert} but perhaps in shards {missing:?}, which do not answer: ask again"),
            ),
        })
    }

    pub(super) async fn all_receipts(
        &self,
        call: &Call,
        request: &ReceiptsRequest,
    ) -> Result<ReceiptsResponse, Refusal> {
        let plan = Plan::new(&*self.region, None, call.own_only);
        let here = |_, led: &dyn Shard, _: &dyn Fn() -> bool| led.receipts();
        let there = |mut client: RegionClient<Channel>, _, call: Call| {
            let request = passed_on(request.clone(), &call, call.deadline);
            async move { client.receipts(request).await }
        };
        let heard: Heard<_, ReceiptsResponse> = self.ask(call, plan, here, there).await?;
        let mut missing_shards = heard.missing;
        let mut held: Vec<_> = heard.here.into_iter().map(|(_, chains)| chains).collect();
        for (_, shards, answer) in heard.there {
            // It names all shards that it does not lead; of those only what it was asked for is missed.
            missing_shards.extend(shards.into_iter().filter(|shard| answer.missing_shards.contains(shard)));
            held.push(answer.chains);
        }
        missing_shards.sort_unstable();
        Ok(ReceiptsResponse { chains: merge::receipts(held), missing_shards, now: self.clock.now() })
    }

    pub(super) async fn all_stats(&self, call: &Call, request: &StatsRequest) -> Result<StatsResponse, Refusal> {
        let plan = Plan::new(&*self.region, None, call.own_only);
        let leaders = plan.leaders.clone();
        let here = |shard, led: &dyn Shard, _: &dyn Fn() -> bool| local::stats(shard, led);
        let there = |mut client: RegionClient<Channel>, _, call: Call| {
            let request = passed_on(*request, &call, call.deadline);
            async move { client.stats(request).await }
        };
        let heard: Heard<_, StatsResponse> = self.ask(call, plan, here, there).await?;
        let mut shards: Vec<ShardStats> = heard.here.into_iter().map(|(_, stats)| stats).collect();
        for (_, asked, answer) in heard.there {
            shards.extend(answer.shards.into_iter().filter(|stats| asked.contains(&stats.shard)));
        }
        if !call.own_only {
            for shard in 0..self.region.count() {
                if !shards.iter().any(|stats| stats.shard == shard) {
                    shards.push(ShardStats { shard, position: "no answer".into(), ..Default::default() });
                }
            }
        }
        for stats in &mut shards {
            if let Some(leader) = leaders.iter().find(|leader| leader.shard == stats.shard) {
                (stats.leader, stats.address) = (leader.name.clone(), leader.address.clone());
            }
        }
        shards.sort_by_key(|stats| stats.shard);
        Ok(StatsResponse { shards })
    }
}

/// Notes that shards did not answer; what was asked wrongly is wrong for all.
fn missed(missing: &mut Vec<u32>, why: &mut Option<Refusal>, shards: &[u32], refusal: Refusal) -> Result<(), Refusal> {
    if refusal.why == Why::Wrong {
        return Err(refusal);
    }
    tracing::debug!(?shards, reason = refusal.message, "shards do not answer");
    missing.extend(shards);
    why.get_or_insert(refusal);
    Ok(())
}
