//! Which fetch stream carries which claims.
//!
//! A claim gets a stream of its own while there are places; beyond that, claims share. A lane is a
//! stream as it is planned: it outlives the stream itself, which is opened anew after a failure or
//! when the claims of a shared lane change. The partitions of a lane are read from the same broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_protocol::limits::MAX_PARTITIONS_PER_FETCH_STREAM;
use tokio::task::AbortHandle;

use super::claim::ClaimId;
use super::gate::Gate;
use crate::brokers::BrokerId;
use crate::quota::{FetchPlace, FetchStreams};

/// A lane's number, for its life.
pub(super) type LaneId = u64;

/// One run of a lane's task. What an older run still brings is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneRun {
    pub(super) lane: LaneId,
    epoch: u64,
}

/// The lanes of one consumer.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<LaneId, Lane>,
    next_id: LaneId,
}

#[derive(Debug)]
struct Lane {
    /// Where its members' partitions are read, as far as was known when that was looked at.
    goal: Option<BrokerId>,
    members: Vec<ClaimId>,
    gate: Arc<Gate>,
    epoch: u64,
    task: Option<AbortHandle>,
    _place: FetchPlace,
}

impl Lane {
    fn stop(&mut self) {
        self.epoch += 1;
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Lanes {
    /// Puts a claim into a lane: one of its own if there is a place, or else the emptiest of those with
    /// the same goal.
    pub(super) fn join(
        &mut self,
        claim: ClaimId,
        goal: Option<BrokerId>,
        streams: &FetchStreams,
        limit: usize,
    ) -> (LaneId, Arc<Gate>) {
        if let Some(place) = streams.try_claim(limit) {
            return self.open(claim, goal, place);
        }
        let emptiest = self
            .lanes
            .iter_mut()
            .filter(|(_, lane)| lane.goal == goal)
            .filter(|(_, lane)| lane.members.len() < MAX_PARTITIONS_PER_FETCH_STREAM)
            .min_by_key(|(_, lane)| lane.members.len());
        match emptiest {
            Some((&id, lane)) => {
                lane.members.push(claim);
                (id, Arc::clone(&lane.gate))
            }
            None => self.open(claim, goal, streams.claim()),
        }
    }

    fn open(
        &mut self,
        claim: ClaimId,
        goal: Option<BrokerId>,
        place: FetchPlace,
    ) -> (LaneId, Arc<Gate>) {
        let id = self.next_id;
        self.next_id += 1;
        let gate = Arc::new(Gate::default());
        let lane = Lane {
            goal,
            members: vec![claim],
            gate: Arc::clone(&gate),
            epoch: 0,
            task: None,
            _place: place,
        };
        self.lanes.insert(id, lane);
        (id, gate)
    }

    /// Takes a claim out of its lane. True when other claims remain, whose stream must be opened
    /// anew without it; an empty lane is closed.
    pub(super) fn leave(&mut self, lane: LaneId, claim: ClaimId) -> bool {
        let Some(found) = self.lanes.get_mut(&lane) else {
            return false;
        };
        found.members.retain(|member| *member != claim);
        if found.members.is_empty() {
            self.lanes.remove(&lane);
            return false;
        }
        true
    }

    /// Ends a lane's run, if it has one, and starts another.
    pub(super) fn restart(
        &mut self,
        lane: LaneId,
        start: impl FnOnce(LaneRun, Arc<Gate>) -> AbortHandle,
    ) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.stop();
            let run = LaneRun {
                lane,
                epoch: found.epoch,
            };
            found.task = Some(start(run, Arc::clone(&found.gate)));
        }
    }

    /// The claims that a run carries; `None` when it is not the lane's latest.
    pub(super) fn members(&self, run: LaneRun) -> Option<&[ClaimId]> {
        let lane = self.lanes.get(&run.lane)?;
        (lane.epoch == run.epoch).then_some(&lane.members)
    }

    /// The members of a run's lane are to be read here.
    pub(super) fn set_goal(&mut self, run: LaneRun, goal: Option<BrokerId>) {
        if let Some(lane) = self.lanes.get_mut(&run.lane) {
            lane.goal = goal;
        }
    }

    /// Whether several claims share this lane.
    pub(super) fn is_shared(&self, lane: LaneId) -> bool {
        self.lanes
            .get(&lane)
            .is_some_and(|lane| lane.members.len() > 1)
    }

    pub(super) fn len(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn clear(&mut self) {
        self.lanes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_share_when_there_are_no_more_places() {
        let streams = FetchStreams::default();
        let mut lanes = Lanes::default();
        let joined: Vec<LaneId> = (1..=5)
            .map(|claim| lanes.join(claim, None, &streams, 2).0)
            .collect();
        assert_eq!(lanes.len(), 2);
        assert_ne!(joined[0], joined[1]);
        assert_eq!(
            joined[2..],
            [joined[0], joined[1], joined[0]],
            "the emptiest lane takes the next claim"
        );
        assert!(lanes.is_shared(joined[0]));

        assert!(lanes.leave(joined[0], 1), "others remain");
        assert!(lanes.leave(joined[1], 2));
        assert!(!lanes.leave(joined[1], 4), "the last one closes the lane");
        assert_eq!(lanes.len(), 1);
        assert!(streams.try_claim(2).is_some(), "and gives its place back");
    }

    #[test]
    fn a_consumer_without_a_lane_opens_one_beyond_the_limit() {
        let streams = FetchStreams::default();
        let _taken = streams.try_claim(1).unwrap();
        let mut lanes = Lanes::default();
        let (first, _) = lanes.join(1, None, &streams, 1);
        assert_eq!(lanes.join(2, None, &streams, 1).0, first);
    }

    #[test]
    fn claims_share_with_those_of_the_same_leader() {
        let streams = FetchStreams::default();
        let mut lanes = Lanes::default();
        let mut join = |claim, leader| lanes.join(claim, leader, &streams, 1).0;
        let one = join(1, Some(1));
        let two = join(2, Some(2));
        assert_ne!(one, two, "beyond the limit, but there is no other way");
        assert_eq!(join(3, Some(1)), one);
        assert_eq!(join(4, Some(2)), two);
        let unknown = join(5, None);
        assert!(![one, two].contains(&unknown));
        assert_eq!(join(6, None), unknown);
    }

    #[tokio::test]
    async fn an_older_run_is_stale() {
        let streams = FetchStreams::default();
        let mut lanes = Lanes::default();
        let (lane, _) = lanes.join(7, None, &streams, 1);
        let mut runs = Vec::new();
        for _ in 0..2 {
            lanes.restart(lane, |run, _| {
                runs.push(run);
                tokio::spawn(std::future::pending::<()>()).abort_handle()
            });
        }
        assert_eq!(lanes.members(runs[0]), None);
        assert_eq!(lanes.members(runs[1]), Some(&[7][..]));
    }
}
