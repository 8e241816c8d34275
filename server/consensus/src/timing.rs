//! How often a leader is heard, and when it is taken for dead.
//!
//! Voters that wait equally long for a leader that has died elect themselves at the same time, and
//! none of them wins. So the windows of the voters do not touch: each takes its place among the
//! voters, in order of their numbers, and has that place's slice to itself.
//!
//! Openraft looks at the time every one and a half heartbeats, so that voters of neighbouring places may
//! ask at the same moment all the same. The higher number prevails then, within the term.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crate::NodeId;
use crate::limits::MAX_VOTERS;

/// How often a leader makes itself heard.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// The shortest wait for a leader, milliseconds. A follower that has heard one trusts it for one
/// wait, and elects itself after another.
pub const ELECTION_MIN_MS: u64 = 300;

/// The longest wait for a leader, milliseconds, exclusive.
pub const ELECTION_MAX_MS: u64 = 600;

/// How long a proposal, a read or a change of members may take.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How long one piece of a snapshot may take on its way and at its end.
pub const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer that is not to be reached is left alone.
pub const UNREACHABLE_WAIT: Duration = Duration::from_millis(200);

/// The slices are as many as there may be voters, so that a voter's own does not depend on how many
/// there are.
const SLICE_MS: u64 = (ELECTION_MAX_MS - ELECTION_MIN_MS) / MAX_VOTERS as u64;

const _: () = assert!(SLICE_MS > 1 && ELECTION_MIN_MS > HEARTBEAT.as_millis() as u64);

/// The waits among which a node picks its own when it starts, milliseconds. A node that is no voter
/// yet, or has not heard that it is one, takes the place that its number would have among 1, 2, 3 and
/// so on. Two voters that share a place for a while may need another election; they agree all the same.
pub(crate) fn election_window_ms(node_id: NodeId, voters: &BTreeSet<NodeId>) -> Range<u64> {
    let places = MAX_VOTERS as u64;
    let place = match voters.iter().position(|voter| *voter == node_id) {
        Some(place) => place as u64 % places,
        None => node_id.wrapping_sub(1) % places,
    };
    let start = ELECTION_MIN_MS + place * SLICE_MS;
    start..start + SLICE_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(voters: &[NodeId]) -> Vec<Range<u64>> {
        let known = voters.iter().copied().collect();
        voters
            .iter()
            .map(|voter| election_window_ms(*voter, &known))
            .collect()
    }

    #[test]
    fn windows_of_voters_do_not_touch() {
        for voters in [vec![7], vec![2, 7, 12], vec![1, 6, 11, 16, 21]] {
            let windows = windows(&voters);
            assert!(windows.iter().all(|window| {
                window.start >= ELECTION_MIN_MS && window.end <= ELECTION_MAX_MS
            }));
            assert!(windows.windows(2).all(|two| two[0].end <= two[1].start));
        }
    }

    #[test]
    fn a_node_that_knows_no_voters_takes_the_place_of_its_number() {
        let known = windows(&[1, 2, 3]);
        let nobody = BTreeSet::new();
        for (window, node_id) in known.into_iter().zip(1..) {
            assert_eq!(election_window_ms(node_id, &nobody), window);
        }
        assert_eq!(
            election_window_ms(6, &nobody),
            election_window_ms(1, &nobody)
        );
        let _ = election_window_ms(0, &nobody);
    }
}
