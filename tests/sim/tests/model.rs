//! The core of a replica, in every order of a few steps.
//!
//! These bounds take seconds each. Wider ones are for by hand: `server/docs/replication.md` has them.

use std::time::Instant;

use millstream_sim::model::report::Report;
use millstream_sim::model::{Bounds, Partition};
use stateright::{Checker, HasDiscoveries, Model};

/// Replicas that have an entry of the first epoch, and go through so many epochs.
fn warm(replicas: u32, epochs: u32) -> Bounds {
    Bounds {
        brokers: replicas,
        replicas,
        epochs,
        warm: true,
        ..Bounds::default()
    }
}

fn check(bounds: Bounds, threads: usize, depth: Option<usize>) -> Report {
    let began = Instant::now();
    let builder = Partition::new(bounds)
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures);
    let builder = match depth {
        Some(depth) => builder.target_max_depth(depth),
        None => builder,
    };
    let checker = builder.spawn_bfs().join();
    Report::of(&checker, began.elapsed(), depth.is_none())
}

/// Without a mistake in it, every rule holds, and all that has to happen does.
#[cfg(not(planted))]
mod sound {
    use millstream_replication::Durability;

    use super::*;

    fn holds(bounds: Bounds) {
        let what = format!("{bounds:?}");
        let report = check(bounds, 2, None);
        println!("{what}\n{report}");
        assert!(report.is_good(), "{what}\n{report}");
    }

    #[test]
    fn two_replicas_begin() {
        holds(Bounds {
            epochs: 3,
            records: 2,
            ..Bounds::default()
        });
    }

    #[test]
    fn two_replicas_begin_and_power_is_lost() {
        holds(Bounds {
            epochs: 3,
            power_losses: 1,
            cuts: true,
            ..Bounds::default()
        });
    }

    #[test]
    fn two_relaxed_replicas_begin_and_power_is_lost() {
        holds(Bounds {
            durability: Durability::Relaxed,
            power_losses: 1,
            ..Bounds::default()
        });
    }

    #[test]
    fn two_replicas_begin_and_a_disk_is_emptied() {
        holds(Bounds {
            epochs: 3,
            wipes: 1,
            ..Bounds::default()
        });
    }

    #[test]
    fn a_set_begins_and_changes() {
        holds(Bounds {
            replicas: 1,
            changes: 1,
            ..Bounds::default()
        });
    }

    #[test]
    fn three_replicas_and_a_crash() {
        holds(Bounds {
            crashes: 1,
            leaders: vec![2],
            ..warm(3, 2)
        });
    }

    #[test]
    fn three_replicas_and_a_write_that_fails() {
        holds(Bounds {
            short_writes: 1,
            leaders: vec![2],
            ..warm(3, 2)
        });
    }

    /// The first steps only: there are too many.
    #[test]
    fn a_fetch_that_arrives_in_parts() {
        let bounds = Bounds {
            records: 2,
            leaders: vec![2],
            cuts: true,
            ..warm(3, 2)
        };
        let report = check(bounds, 2, Some(14));
        println!("{report}");
        assert_eq!(report.broken().count(), 0, "{report}");
    }

    #[test]
    fn two_replicas_and_a_loss_of_power() {
        holds(Bounds {
            power_losses: 1,
            cuts: true,
            leaders: vec![2, 1],
            ..warm(2, 3)
        });
    }

    #[test]
    fn two_replicas_and_an_emptied_disk() {
        holds(Bounds {
            wipes: 1,
            ..warm(2, 2)
        });
    }

    #[test]
    fn a_set_that_changes_twice() {
        holds(Bounds {
            brokers: 2,
            changes: 2,
            ..warm(1, 2)
        });
    }
}

/// What is planted in the core is found: breadth first, so that the steps are about the fewest.
#[cfg(planted)]
mod planted {
    use millstream_replication::planted::Mistake;

    use super::*;

    const ON_DISKS: &str = "what is acknowledged is on a majority's disks";
    const HAS_ALL: &str = "a leader has all that older epochs committed";

    fn finds(mistake: Mistake, rule: &str, bounds: Bounds) {
        let mistake = Some(mistake);
        let report = check(Bounds { mistake, ..bounds }, 1, None);
        println!("{mistake:?}: {report}");
        let is_found = report.broken().any(|it| it.name == rule);
        assert!(is_found, "{mistake:?} does not break this: {rule}");
    }

    #[test]
    fn an_ack_before_the_flush_is_found() {
        let bounds = Bounds {
            power_losses: 1,
            ..warm(2, 1)
        };
        finds(Mistake::AckBeforeFlush, ON_DISKS, bounds);
    }

    #[test]
    fn a_cut_to_the_high_watermark_is_found() {
        finds(Mistake::TruncateToHighWatermark, HAS_ALL, warm(2, 3));
    }

    #[test]
    fn an_answer_before_the_promise_is_found() {
        let bounds = Bounds {
            crashes: 1,
            ..warm(3, 2)
        };
        finds(Mistake::AnswerBeforePromise, HAS_ALL, bounds);
    }

    #[test]
    fn a_leader_that_counts_itself_before_its_flush_is_found() {
        let bounds = Bounds {
            power_losses: 1,
            warm: false,
            ..warm(1, 1)
        };
        finds(Mistake::CountSelfBeforeFlush, ON_DISKS, bounds);
    }

    #[test]
    fn a_commit_without_an_entry_of_the_epoch_is_found() {
        let bounds = Bounds {
            leaders: vec![2, 1, 2],
            cuts: true,
            ..warm(3, 4)
        };
        finds(Mistake::NoEpochStart, HAS_ALL, bounds);
    }

    #[test]
    fn a_vote_by_an_empty_disk_is_found() {
        let bounds = Bounds {
            wipes: 1,
            ..warm(2, 2)
        };
        finds(Mistake::VoteByEmptyDisk, HAS_ALL, bounds);
    }

    #[test]
    fn a_commit_with_the_old_set_is_found() {
        let bounds = Bounds {
            brokers: 2,
            changes: 1,
            ..warm(1, 1)
        };
        finds(Mistake::CommitWithOldSet, ON_DISKS, bounds);
    }

    #[test]
    fn a_read_past_the_commit_is_found() {
        let bounds = Bounds {
            warm: false,
            ..warm(3, 1)
        };
        finds(Mistake::ReadPastCommit, ON_DISKS, bounds);
    }
}
