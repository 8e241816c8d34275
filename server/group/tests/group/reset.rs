//! Resets, with members and without.

use super::script::check;

const OWNER: &str = "
        topic orders 2
        admin g orders-0=50 orders-1=60
          + g orders-0=50
          + g orders-1=60
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@50 orders-1@60
";

#[test]
fn owners_seek_and_what_they_commit_from_before_is_refused() {
    check(&format!(
        "{OWNER}
        reset g orders 0=10
          + g g2
          + g orders-0=10
          1 <- seek g2 orders-0@10
          reset in g2, 1 offsets
        commit 1 g1 orders-0=55
          1 <- refused StaleGeneration: orders-0 was assigned or reset in generation 2, the commit is of 1
        commit 1 g1 orders-1=65
          + g orders-1=65
          1 <- committed
        commit 1 g2 orders-0=11
          + g orders-0=11
          1 <- committed
        "
    ));
}

#[test]
fn a_partition_on_its_way_out_takes_no_more_commits_and_starts_anew_at_its_next_owner() {
    check(&format!(
        "{OWNER}
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-1
        reset g orders 0=1 1=2
          + g g3
          + g orders-0=1
          + g orders-1=2
          1 <- seek g3 orders-0@1
          reset in g3, 2 offsets
        commit 1 g3 orders-1=70
          1 <- refused StaleGeneration: orders-1 is not, or no longer, the member's
        release 1 g2 orders-1
          2 <- assign g3 orders-1@2
        "
    ));
}

#[test]
fn a_commit_from_before_a_reset_stays_stale_when_the_partition_is_revoked_after_it() {
    check(&format!(
        "{OWNER}
        reset g orders 1=2
          + g g2
          + g orders-1=2
          1 <- seek g2 orders-1@2
          reset in g2, 1 offsets
        join 2 b g orders @earliest
          + g g3
          2 <- joined b-2 g3
          1 <- revoke g3 orders-1
        commit 1 g1 orders-1=70
          1 <- refused StaleGeneration: orders-1 was assigned or reset in generation 2, the commit is of 1
        commit 1 g2 orders-1=3
          + g orders-1=3
          1 <- committed
        release 1 g3 orders-1
          2 <- assign g3 orders-1@3
        "
    ));
}

#[test]
fn a_reset_is_an_answer_to_a_partition_that_waits_for_its_start() {
    check(
        "
        topic orders 1
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          ? g orders-0 Latest
        reset g orders 0=3
          + g g2
          + g orders-0=3
          1 <- assign g2 orders-0@3
          reset in g2, 1 offsets
        resolve g orders-0=99
        offsets g
          orders-0=3
        ",
    );
}

#[test]
fn an_empty_group_is_reset_for_its_next_member() {
    check(&format!(
        "{OWNER}
        leave 1
          + g g2
        reset g orders 0=0 1=0
          + g g3
          + g orders-0=0
          + g orders-1=0
          reset in g3, 2 offsets
        join 2 b g orders @latest
          + g g4
          2 <- joined b-2 g4
          2 <- assign g4 orders-0@0 orders-1@0
        "
    ));
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(&format!(
        "{OWNER}
        reset nobody orders 0=0
          ! UnknownGroup: no group is named nobody
        reset g nothing 0=0
          ! UnknownTopic: no topic is named nothing
        reset g orders 2=0
          ! UnknownPartition: topic orders has no partition 2
        reset g orders
          ! InvalidRequest: no partition of orders is named
        offsets g
          orders-0=50
          orders-1=60
        "
    ));
}
