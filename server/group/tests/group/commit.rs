//! Commits of members.

use super::script::check;

const OWNER: &str = "
        topic orders 2
        admin g orders-0=0 orders-1=0
          + g orders-0=0
          + g orders-1=0
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@0 orders-1@0
";

#[test]
fn the_last_commit_of_a_partition_counts() {
    check(&format!(
        "{OWNER}
        commit 1 g1 orders-0=5 orders-0=6/six orders-1=2
          + g orders-0=5
          + g orders-0=6
          + g orders-1=2
          1 <- committed
        commit 1 g1 orders-0=3
          + g orders-0=3
          1 <- committed
        commit 1 g1
          1 <- committed
        offsets g
          orders-0=3
          orders-1=2
        "
    ));
}

#[test]
fn a_commit_is_taken_as_a_whole_or_not_at_all() {
    check(&format!(
        "{OWNER}
        topic other 1
        commit 1 g1 orders-0=5 other-0=1
          1 <- refused StaleGeneration: other-0 is not, or no longer, the member's
        commit 1 g1 orders-0=5 orders-2=1
          1 <- refused UnknownPartition: topic orders has no partition 2
        commit 1 g1 orders-0=5 nothing-0=1
          1 <- refused UnknownTopic: no topic is named nothing
        offsets g
          orders-0=0
          orders-1=0
        "
    ));
}

#[test]
fn who_is_no_member_commits_nothing() {
    check(&format!(
        "{OWNER}
        commit 2 g1 orders-0=5
          ! UnknownMember: member 2 is in no group here
        leave 1
          + g g2
        commit 1 g2 orders-0=5
          ! UnknownMember: member 1 is in no group here
        offsets g
          orders-0=0
          orders-1=0
        "
    ));
}

#[test]
fn a_commit_from_before_the_assignment_is_stale() {
    check(&format!(
        "{OWNER}
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-1
        release 1 g2 orders-1
          2 <- assign g2 orders-1@0
        commit 2 g1 orders-1=5
          2 <- refused StaleGeneration: orders-1 was assigned or reset in generation 2, the commit is of 1
        commit 2 g2 orders-1=5
          + g orders-1=5
          2 <- committed
        commit 1 g1 orders-0=7
          + g orders-0=7
          1 <- committed
        "
    ));
}

#[test]
fn metadata_and_the_number_of_offsets_are_bounded() {
    let metadata = "x".repeat(4097);
    let many = " orders-0=1".repeat(10_001);
    check(&format!(
        "{OWNER}
        commit 1 g1 orders-0=5/{metadata}
          1 <- refused InvalidRequest: more than 4096 bytes of metadata with one offset
        commit 1 g1{many}
          1 <- refused InvalidRequest: more than 10000 offsets in one commit
        "
    ));
}
