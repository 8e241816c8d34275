//! Workers own what their brokers lead.

use super::script::check;

#[test]
fn a_worker_owns_what_its_broker_leads_and_what_nobody_owns_has_its_start_all_the_same() {
    check(
        "
        topic orders 3
        lead orders 0=1 1=2 2=1
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          ? alert orders-0 Latest, orders-1 Latest, orders-2 Latest
        list
          alert Rebalancing members=1 g1
        resolve alert orders-1=50
          + alert orders-1=50
        resolve alert orders-0=4 orders-2=6
          + alert orders-0=4
          + alert orders-2=6
          1 <- assign g1 orders-0@4 orders-2@6
        list
          alert Stable members=1 g1
        describe alert
          Stable g1
          w-1 w CN=w Worker [orders-0 orders-2]
          orders-0 w-1 committed=4 at=6 \"\" hw=100 lag=96
          orders-1 nobody committed=50 at=5 \"\" hw=100 lag=50
          orders-2 w-1 committed=6 at=6 \"\" hw=100 lag=94
        join 3 w alert orders @latest worker@3
          3 <- joined w-3 g1
          3 <- assign g1
        join 2 w alert orders @latest worker@2
          + alert g2
          2 <- joined w-2 g2
          2 <- assign g2 orders-1@50
        leave 2
          + alert g3
        leave 1
          + alert g4
        commit 3 g4 orders-1=51
          3 <- refused StaleGeneration: orders-1 is not, or no longer, the member's
        ",
    );
}

#[test]
fn a_partition_goes_with_its_leader_once_it_is_released() {
    check(
        "
        topic orders 2
        admin alert orders-0=4 orders-1=5
          + alert orders-0=4
          + alert orders-1=5
        lead orders 0=1 1=1
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          1 <- assign g1 orders-0@4 orders-1@5
        join 2 w alert orders @latest worker@2
          2 <- joined w-2 g1
          2 <- assign g1
        lead orders 0=2
          + alert g2
          1 <- revoke g2 orders-0
        commit 1 g2 orders-0=9 orders-1=8
          + alert orders-0=9
          + alert orders-1=8
          1 <- committed
        release 1 g2 orders-0
          2 <- assign g2 orders-0@9
        commit 1 g2 orders-0=10
          1 <- refused StaleGeneration: orders-0 is not, or no longer, the member's
        lead orders 0=1
          + alert g3
          2 <- revoke g3 orders-0
        release 2 g3 orders-0
          1 <- assign g3 orders-0@9
        commit 1 g1 orders-0=11
          1 <- refused StaleGeneration: orders-0 was assigned or reset in generation 3, the commit is of 1
        lead orders 0=1 1=1
        ",
    );
}

#[test]
fn what_a_member_that_has_left_had_goes_to_the_new_leader_at_once() {
    check(
        "
        topic orders 1
        admin alert orders-0=4
          + alert orders-0=4
        lead orders 0=1
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          1 <- assign g1 orders-0@4
        join 2 w alert orders @latest worker@2
          2 <- joined w-2 g1
          2 <- assign g1
        leave 1
          + alert g2
        lead orders 0=2
          + alert g3
          2 <- assign g3 orders-0@4
        ",
    );
    check(
        "
        topic orders 1
        admin alert orders-0=4
          + alert orders-0=4
        lead orders 0=1
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          1 <- assign g1 orders-0@4
        join 2 w alert orders @latest worker@2
          2 <- joined w-2 g1
          2 <- assign g1
        lead orders 0=2
          + alert g2
          1 <- revoke g2 orders-0
        leave 1
          2 <- assign g2 orders-0@4
        ",
    );
}

#[test]
fn a_partition_without_a_leader_is_nobodys() {
    check(
        "
        topic orders 1
        admin alert orders-0=4
          + alert orders-0=4
        lead orders 0=1
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          1 <- assign g1 orders-0@4
        lead orders 0=-
          + alert g2
          1 <- revoke g2 orders-0
        lead orders 0=1
          + alert g3
        release 1 g2 orders-0
          1 <- assign g3 orders-0@4
        lead orders 0=-
          + alert g4
          1 <- revoke g4 orders-0
        release 1 g4 orders-0
        list
          alert Stable members=1 g4
        ",
    );
}

#[test]
fn of_two_on_one_broker_the_newer_one_owns() {
    check(
        "
        topic orders 1
        admin alert orders-0=4
          + alert orders-0=4
        lead orders 0=1
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          1 <- assign g1 orders-0@4
        join 2 w alert orders @latest worker@1
          + alert g2
          2 <- joined w-2 g2
          1 <- revoke g2 orders-0
        leave 1
          2 <- assign g2 orders-0@4
        ",
    );
}

#[test]
fn a_reset_reaches_what_nobody_owns() {
    check(
        "
        topic orders 2
        lead orders 0=1 1=2
        join 1 w alert orders @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          ? alert orders-0 Latest, orders-1 Latest
        resolve alert orders-0=40
          + alert orders-0=40
          1 <- assign g1 orders-0@40
        reset alert orders 0=3 1=4
          + alert g2
          + alert orders-0=3
          + alert orders-1=4
          1 <- seek g2 orders-0@3
          reset in g2, 2 offsets
        resolve alert orders-1=90
        join 2 w alert orders @latest worker@2
          + alert g3
          2 <- joined w-2 g3
          2 <- assign g3 orders-1@4
        ",
    );
}

#[test]
fn topics_grow_and_go_under_workers_at_home() {
    check(
        "
        topic orders 1
        topic other 1
        admin alert orders-0=4 other-0=5
          + alert orders-0=4
          + alert other-0=5
        lead orders 0=1
        lead other 0=2
        join 1 w alert orders,other @latest worker@1
          + alert g1
          1 <- joined w-1 g1
          1 <- assign g1 orders-0@4
        topic orders 2
          + alert orders-1=0
          + alert g2
        lead orders 1=1
          + alert g3
          1 <- assign g3 orders-1@0
        delete other
          + alert #2-0 forgotten
          + alert g4
        delete orders
          + alert #1-0 forgotten
          + alert #1-1 forgotten
          + alert g5
          1 <- revoke g5 orders-0 orders-1
        ",
    );
}

#[test]
fn clients_and_workers_without_a_home_care_for_no_leaders() {
    check(
        "
        topic orders 2
        admin mine orders-0=1 orders-1=2
          + mine orders-0=1
          + mine orders-1=2
        admin alert orders-0=1 orders-1=2
          + alert orders-0=1
          + alert orders-1=2
        join 1 a mine orders @latest
          + mine g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@1 orders-1@2
        join 2 w alert orders @latest worker
          + alert g1
          2 <- joined w-2 g1
          2 <- assign g1 orders-0@1 orders-1@2
        lead orders 0=1 1=2
        join 3 w alert orders @latest worker@1
          + alert g2
          3 <- joined w-3 g2
          2 <- revoke g2 orders-0 orders-1
        release 2 g2 orders-0 orders-1
          3 <- assign g2 orders-0@1
        leave 3
          + alert g3
          2 <- assign g3 orders-0@1 orders-1@2
        ",
    );
}
