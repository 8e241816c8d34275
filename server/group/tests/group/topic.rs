//! Topics that grow, go, and come again.

use super::script::check;

#[test]
fn partitions_that_are_born_under_a_group_are_read_from_their_beginning() {
    check(
        "
        topic orders 1
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          ? g orders-0 Latest
        topic orders 2
          + g orders-1=0
          + g g2
          1 <- assign g2 orders-1@0
        resolve g orders-0=9
          + g orders-0=9
          1 <- assign g2 orders-0@9
        ",
    );
}

#[test]
fn a_group_without_members_begins_at_the_beginning_as_well() {
    check(
        "
        topic orders 1
        topic other 1
        admin g orders-0=5
          + g orders-0=5
        topic other 2
        topic orders 2
          + g orders-1=0
        topic orders 2
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5 orders-1@0
        topic orders 2
        ",
    );
}

#[test]
fn standing_members_get_new_partitions() {
    check(
        "
        topic orders 1
        admin g orders-0=5
          + g orders-0=5
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5
        join 2 b g orders @latest
          2 <- joined b-2 g1
          2 <- assign g1
        topic orders 3
          + g orders-1=0
          + g orders-2=0
          + g g2
          1 <- assign g2 orders-2@0
          2 <- assign g2 orders-1@0
        ",
    );
}

#[test]
fn a_deleted_topic_takes_its_offsets_with_it() {
    check(
        "
        topic orders 1
        topic other 1
        admin g orders-0=5 other-0=6
          + g orders-0=5
          + g other-0=6
        admin alone orders-0=1
          + alone orders-0=1
        join 1 a g orders,other @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5 other-0@6
        delete orders
          + alone #1-0 forgotten
          + g #1-0 forgotten
          + g g2
          1 <- revoke g2 orders-0
        list
          g Rebalancing members=1 g2
        commit 1 g2 orders-0=9
          1 <- refused UnknownTopic: no topic is named orders
        release 1 g2 orders-0
        list
          g Stable members=1 g2
        offsets g
          other-0=6
        ",
    );
}

#[test]
fn offsets_of_a_topic_are_not_used_for_another_of_the_same_name() {
    check(
        "
        topic orders 1
        admin g orders-0=500
          + g orders-0=500
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@500
        recreate orders 1
          + g #1-0 forgotten
          + g g2
          + g orders-0=0
          + g g3
          1 <- revoke g2 orders-0
        commit 1 g3 orders-0=501
          1 <- refused StaleGeneration: orders-0 is not, or no longer, the member's
        release 1 g2 orders-0
          1 <- assign g3 orders-0@0
        commit 1 g3 orders-0=1
          + g orders-0=1
          1 <- committed
        describe g
          Stable g3
          a-1 a CN=a Client [orders-0]
          orders-0 a-1 committed=1 at=7 \"\" hw=100 lag=99
        ",
    );
}

#[test]
fn a_start_that_was_asked_in_a_deleted_topic_is_no_answer_in_the_next() {
    check(
        "
        topic orders 1
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          ? g orders-0 Latest
        recreate orders 1
          + g g2
          + g orders-0=0
          + g g3
          1 <- assign g3 orders-0@0
        resolve g orders-0=800
        offsets g
          orders-0=0
        ",
    );
}

#[test]
fn offsets_of_topics_that_went_while_nobody_looked_are_forgotten_on_request() {
    check(
        "
        topic orders 1
        topic other 1
        admin g orders-0=5 other-0=6
          + g orders-0=5
          + g other-0=6
        admin h orders-0=5
          + h orders-0=5
        purge
        restart
        purge
        list
          g Empty members=0 g0
          h Empty members=0 g0
        ",
    );
}
