//! A new coordinator from the log of an old one.

use super::script::check;

#[test]
fn offsets_and_the_generation_survive_and_members_join_again() {
    check(
        "
        topic orders 2
        admin g orders-0=5 orders-1=6
          + g orders-0=5
          + g orders-1=6
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5 orders-1@6
        commit 1 g1 orders-0=7/seven
          + g orders-0=7
          1 <- committed
        restart
        list
          g Empty members=0 g1
        commit 1 g1 orders-0=8
          ! UnknownMember: member 1 is in no group here
        join 2 a g orders @latest
          + g g2
          2 <- joined a-2 g2
          2 <- assign g2 orders-0@7 orders-1@6
        describe g
          Stable g2
          a-2 a CN=a Client [orders-0 orders-1]
          orders-0 a-2 committed=7 at=4 \"seven\" hw=100 lag=93
          orders-1 a-2 committed=6 at=2 \"\" hw=100 lag=94
        ",
    );
}

#[test]
fn a_start_that_was_not_committed_is_asked_for_again() {
    check(
        "
        topic orders 1
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          ? g orders-0 Latest
        restart
        join 2 a g orders @latest
          + g g2
          2 <- joined a-2 g2
          ? g orders-0 Latest
        ",
    );
}
