//! Joining and leaving.

use millstream_group::Limits;

use super::script::{check, check_with};

#[test]
fn the_first_member_pins_its_start_and_owns_everything() {
    check(
        "
        topic orders 2
        join 1 a billing orders @latest
          + billing g1
          1 <- joined a-1 g1
          ? billing orders-0 Latest, orders-1 Latest
        resolve billing orders-0=7 orders-1=9
          + billing orders-0=7
          + billing orders-1=9
          1 <- assign g1 orders-0@7 orders-1@9
        list
          billing Stable members=1 g1
        ",
    );
}

#[test]
fn starts_are_resolved_in_any_order_and_answers_nobody_waits_for_are_passed_over() {
    check(
        "
        topic orders 2
        join 1 a billing orders @t500
          + billing g1
          1 <- joined a-1 g1
          ? billing orders-0 Time(500), orders-1 Time(500)
        resolve billing orders-1=9
          + billing orders-1=9
          1 <- assign g1 orders-1@9
        list
          billing Rebalancing members=1 g1
        resolve billing orders-0=4 orders-1=3
          + billing orders-0=4
          1 <- assign g1 orders-0@4
        resolve billing orders-0=5
        offsets billing
          orders-0=4
          orders-1=9
        ",
    );
}

#[test]
fn a_start_asked_for_a_member_that_died_goes_to_the_next() {
    check(
        "
        topic orders 1
        join 1 a billing orders @latest
          + billing g1
          1 <- joined a-1 g1
          ? billing orders-0 Latest
        join 2 b billing orders @earliest
          2 <- joined b-2 g1
          2 <- assign g1
        leave 1
          + billing g2
        resolve billing orders-0=7
          + billing orders-0=7
          2 <- assign g2 orders-0@7
        ",
    );
}

#[test]
fn an_answer_to_a_group_that_went_and_came_does_not_count_for_another_position() {
    check(
        "
        topic orders 1
        join 1 a billing orders @latest
          + billing g1
          1 <- joined a-1 g1
          ? billing orders-0 Latest
        leave 1
          + billing g2
        drop billing
          + billing deleted
        resolve billing orders-0=7
        list
        join 2 b billing orders @earliest
          + billing g1
          2 <- joined b-2 g1
          ? billing orders-0 Earliest
        ",
    );
}

#[test]
fn a_member_that_dies_before_it_commits_skips_nothing() {
    check(
        "
        topic orders 1
        join 1 a billing orders @latest
          + billing g1
          1 <- joined a-1 g1
          ? billing orders-0 Latest
        resolve billing orders-0=7
          + billing orders-0=7
          1 <- assign g1 orders-0@7
        leave 1
          + billing g2
        join 2 b billing orders @latest
          + billing g3
          2 <- joined b-2 g3
          2 <- assign g3 orders-0@7
        ",
    );
}

#[test]
fn members_beyond_the_partitions_stand_by_and_take_over_at_once() {
    check(
        "
        topic orders 1
        admin billing orders-0=5
          + billing orders-0=5
        join 1 a billing orders @latest
          + billing g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@5
        join 2 b billing orders @latest
          2 <- joined b-2 g1
          2 <- assign g1
        commit 1 g1 orders-0=8
          + billing orders-0=8
          1 <- committed
        leave 1
          + billing g2
          2 <- assign g2 orders-0@8
        leave 2
          + billing g3
        list
          billing Empty members=0 g3
        leave 2
        ",
    );
}

#[test]
fn a_returning_name_gets_its_partitions_back() {
    check(
        "
        topic orders 4
        admin g orders-0=0 orders-1=0 orders-2=0 orders-3=0
          + g orders-0=0
          + g orders-1=0
          + g orders-2=0
          + g orders-3=0
        join 1 a g orders @latest
          + g g1
          1 <- joined a-1 g1
          1 <- assign g1 orders-0@0 orders-1@0 orders-2@0 orders-3@0
        join 2 b g orders @latest
          + g g2
          2 <- joined b-2 g2
          1 <- revoke g2 orders-2 orders-3
        release 1 g2 orders-2 orders-3
          2 <- assign g2 orders-2@0 orders-3@0
        leave 1
          + g g3
          2 <- assign g3 orders-0@0 orders-1@0
        join 3 c g orders @latest
          + g g4
          3 <- joined c-3 g4
          2 <- revoke g4 orders-2 orders-3
        release 2 g4 orders-2 orders-3
          3 <- assign g4 orders-2@0 orders-3@0
        leave 3
          + g g5
          2 <- assign g5 orders-2@0 orders-3@0
        join 4 a g orders @latest
          + g g6
          4 <- joined a-4 g6
          2 <- revoke g6 orders-0 orders-1
        ",
    );
}

#[test]
fn a_member_takes_only_topics_that_it_names() {
    check(
        "
        topic a 1
        topic b 1
        join 1 x g a,a,b @earliest
          + g g1
          1 <- joined x-1 g1
          ? g a-0 Earliest, b-0 Earliest
        join 2 y g b @earliest
          + g g2
          2 <- joined y-2 g2
        resolve g a-0=0 b-0=0
          + g a-0=0
          + g b-0=0
          1 <- assign g2 a-0@0
          2 <- assign g2 b-0@0
        ",
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    check(
        "
        topic orders 1
        join 1 a billing nothing @latest
          ! UnknownTopic: no topic is named nothing
        join 1 a billing - @latest
          ! InvalidRequest: the member names no topic to consume
        list
        join 1 a billing orders @latest
          + billing g1
          1 <- joined a-1 g1
          ? billing orders-0 Latest
        join 1 a other orders @latest
          ! InvalidRequest: member 1 has joined before
        release 9 g1 orders-0
          ! UnknownMember: member 9 is in no group here
        list
          billing Rebalancing members=1 g1
        ",
    );
}

#[test]
fn a_group_has_members_of_one_kind() {
    check(
        "
        topic orders 1
        join 1 w alert orders @latest worker
          + alert g1
          1 <- joined w-1 g1
          ? alert orders-0 Latest
        join 2 a alert orders @latest
          ! GroupOwnedByDeployment: group alert belongs to the deployment alert
        join 2 a mine orders @latest
          + mine g1
          2 <- joined a-2 g1
          ? mine orders-0 Latest
        join 3 w mine orders @latest worker
          ! GroupNotEmpty: group mine has clients for members, so no deployment can use it
        ",
    );
}

#[test]
fn limits_hold() {
    let limits = Limits {
        groups: 1,
        members_per_group: 2,
        topics_per_member: 1,
    };
    check_with(
        limits,
        "
        topic a 1
        topic b 1
        join 1 x g a,b @latest
          ! InvalidRequest: more than 1 topics of one member
        join 1 x g a @latest
          + g g1
          1 <- joined x-1 g1
          ? g a-0 Latest
        join 2 y g a @latest
          2 <- joined y-2 g1
          2 <- assign g1
        join 3 z g a @latest
          ! InvalidRequest: more than 2 members of one group
        join 3 z h a @latest
          ! InvalidRequest: more than 1 groups
        admin h a-0=1
          ! InvalidRequest: more than 1 groups
        list
          g Rebalancing members=2 g1
        ",
    );
}
