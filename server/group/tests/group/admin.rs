//! Commits from outside, deletion, and the reads.

use super::script::check;

#[test]
fn commits_from_outside_need_an_empty_group() {
    check(
        "
        topic orders 1
        admin g orders-0=5
          + g orders-0=5
        admin g orders-1=5
          ! UnknownPartition: topic orders has no partition 1
        admin other nothing-0=5
          ! UnknownTopic: no topic is named nothing
        admin other
        list
          g Empty members=0 g0
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5
        admin g orders-0=6
          ! GroupNotEmpty: group g has 1 members
        ",
    );
}

#[test]
fn only_an_empty_group_is_deleted() {
    check(
        "
        topic orders 1
        admin g orders-0=5
          + g orders-0=5
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5
        drop g
          ! GroupNotEmpty: group g has 1 members
        leave 1
          + g g2
        drop g
          + g #1-0 forgotten
          + g deleted
        drop g
          ! UnknownGroup: no group is named g
        list
        offsets g
        describe g
          ! UnknownGroup: no group is named g
        restart
        list
        ",
    );
}

#[test]
fn a_description_shows_members_partitions_and_lag() {
    check(
        "
        topic orders 3
        topic extra 1
        admin g orders-0=95 orders-1=200/beyond extra-0=10
          + g orders-0=95
          + g orders-1=200
          + g extra-0=10
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@95 orders-1@200
          ? g orders-2 Earliest
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
        describe g
          Rebalancing g2
          a-1 a CN=a Client [orders-0 orders-1]
          b-2 b CN=b Client []
          extra-0 nobody committed=10 at=3 \"\" hw=100 lag=90
          orders-0 a-1 committed=95 at=3 \"\" hw=100 lag=5
          orders-1 a-1 committed=200 at=3 \"beyond\" hw=100 lag=0
          orders-2 nobody committed=none at=never \"\" hw=100 lag=90
        ",
    );
}
