//! The way of a partition from one owner to the next.

use super::script::check;

#[test]
fn only_what_moves_is_revoked_and_the_next_owner_waits_for_the_release() {
    check(
        "
        topic orders 4
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          ? g orders-0 Earliest, orders-1 Earliest, orders-2 Earliest, orders-3 Earliest
        resolve g orders-0=0 orders-1=0 orders-2=0 orders-3=0
          + g orders-0=0
          + g orders-1=0
          + g orders-2=0
          + g orders-3=0
          1 <- assign g1 orders-0@0 orders-1@0 orders-2@0 orders-3@0
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-2 orders-3
        list
          g Rebalancing members=2 g2
        commit 1 g2 orders-2=5 orders-3=6
          + g orders-2=5
          + g orders-3=6
          1 <- committed
        release 1 g2 orders-2
          2 <- assign g2 orders-2@5
        commit 1 g2 orders-2=9
          1 <- refused StaleGeneration: orders-2 is not, or no longer, the member's
        release 1 g2 orders-3
          2 <- assign g2 orders-3@6
        list
          g Stable members=2 g2
        ",
    );
}

#[test]
fn an_owner_that_dies_releases_by_dying() {
    check(
        "
        topic orders 2
        admin g orders-0=0 orders-1=0
          + g orders-0=0
          + g orders-1=0
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@0 orders-1@0
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-1
        leave 1
          + g g3
          2 <- assign g3 orders-0@0 orders-1@0
        ",
    );
}

#[test]
fn a_slow_owner_delays_its_own_partitions_alone() {
    check(
        "
        topic orders 3
        admin g orders-0=0 orders-1=0 orders-2=0
          + g orders-0=0
          + g orders-1=0
          + g orders-2=0
        join 1 slow g orders @earliest
          + g g1
          1 <- joined slow-1 g1
          1 <- assign g1 orders-0@0 orders-1@0 orders-2@0
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-2
        join 3 c g orders @earliest
          + g g3
          3 <- joined c-3 g3
          1 <- revoke g3 orders-1
        release 1 g3 orders-1
          3 <- assign g3 orders-1@0
        commit 3 g3 orders-1=4
          + g orders-1=4
          3 <- committed
        leave 3
          + g g4
          1 <- assign g4 orders-1@4
        release 1 g2 orders-2
          2 <- assign g4 orders-2@0
        ",
    );
}

#[test]
fn what_comes_back_before_it_is_released_waits_for_the_release_all_the_same() {
    check(
        "
        topic orders 2
        admin g orders-0=0 orders-1=0
          + g orders-0=0
          + g orders-1=0
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@0 orders-1@0
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-1
        leave 2
          + g g3
        commit 1 g3 orders-1=3
          + g orders-1=3
          1 <- committed
        release 1 g2 orders-1
          1 <- assign g3 orders-1@3
        release 1 g2 orders-1
        commit 1 g3 orders-1=4
          + g orders-1=4
          1 <- committed
        ",
    );
}

#[test]
fn an_old_release_does_not_answer_a_new_revocation() {
    check(
        "
        topic orders 2
        admin g orders-0=0 orders-1=0
          + g orders-0=0
          + g orders-1=0
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@0 orders-1@0
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-1
        leave 2
          + g g3
        release 1 g2 orders-1
          1 <- assign g3 orders-1@0
        join 3 b g orders @earliest
          + g g4
          3 <- joined b-3 g4
          1 <- revoke g4 orders-1
        release 1 g2 orders-1
        release 3 g4 orders-1
        release 1 g4 orders-1 orders-0 orders-7 nothing-0
          3 <- assign g4 orders-1@0
        ",
    );
}

#[test]
fn a_target_that_dies_while_it_waits_gives_way_to_another() {
    check(
        "
        topic orders 2
        admin g orders-0=0 orders-1=0
          + g orders-0=0
          + g orders-1=0
        join 1 a g orders @earliest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@0 orders-1@0
        join 2 b g orders @earliest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-1
        join 3 c g orders @earliest
          3 <- joined c-3 g2
          3 <- assign g2
        leave 2
          + g g3
        release 1 g2 orders-1
          3 <- assign g3 orders-1@0
        ",
    );
}
