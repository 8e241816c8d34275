//! Join tokens.

use millstream_metadata::limits::{MAX_JOIN_TOKEN_MS, MAX_JOIN_TOKENS};
use millstream_metadata::{Command, Join, JoinToken, Registration};
use millstream_protocol::{ErrorCode, TimestampMs};

use super::cluster::{Cluster, NOW_MS, hash, issue, register, registration};

fn joining(broker_id: u32, token: u32, now_ms: TimestampMs) -> Command {
    Command::RegisterBroker {
        registration: Registration {
            join: Some(Join {
                token: hash(token),
                now_ms,
            }),
            ..registration(broker_id)
        },
    }
}

#[test]
fn a_new_broker_needs_a_token_and_each_lets_one_in() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.refused(
        register(2),
        ErrorCode::NotAuthorized,
        "broker 2 is new: it needs a join token, which an operator issues",
    );
    let unknown = |broker_id| {
        format!(
            "the join token of broker {broker_id} is not known: each lets in one broker; issue another one"
        )
    };
    cluster.refused(joining(2, 9, NOW_MS), ErrorCode::NotAuthorized, &unknown(2));
    cluster.run(issue(2, hash(9), NOW_MS + 10));
    assert_eq!(cluster.image.join_tokens().count(), 1);
    cluster.run(joining(2, 9, NOW_MS + 9));
    assert_eq!(cluster.image.join_tokens().count(), 0);
    cluster.refused(joining(3, 9, NOW_MS), ErrorCode::NotAuthorized, &unknown(3));
    // Asked again, because the answer was lost, or after a start: it is known.
    cluster.nothing(joining(2, 9, NOW_MS + 9));
    cluster.nothing(register(2));
    // Removed, it is new again.
    cluster.run(Command::RemoveBroker { broker_id: 2 });
    cluster.refused(joining(2, 9, NOW_MS), ErrorCode::NotAuthorized, &unknown(2));
}

#[test]
fn a_token_ends_with_its_time() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(issue(2, hash(9), NOW_MS + 10));
    let says = "the join token of broker 2 has expired: issue another one";
    cluster.refused(joining(2, 9, NOW_MS + 10), ErrorCode::NotAuthorized, says);
    let says = "a join token lives for a millisecond at least, and for a week at most";
    for expires_at_ms in [
        NOW_MS - 1,
        NOW_MS,
        NOW_MS + MAX_JOIN_TOKEN_MS + 1,
        TimestampMs::MIN,
        TimestampMs::MAX,
    ] {
        let command = issue(3, hash(8), expires_at_ms);
        cluster.refused(command, ErrorCode::InvalidRequest, says);
    }
    cluster.run(issue(3, hash(8), NOW_MS + MAX_JOIN_TOKEN_MS));
}

#[test]
fn tokens_are_bounded_and_those_that_have_expired_make_room() {
    let mut cluster = Cluster::with_brokers(1);
    let count = MAX_JOIN_TOKENS as u32;
    for token in 0..count {
        cluster.run(issue(2 + token, hash(token), NOW_MS + 10));
    }
    cluster.refused(
        issue(2 + count, hash(count), NOW_MS + 10),
        ErrorCode::InvalidRequest,
        "more than 32 join tokens that nobody has redeemed",
    );
    let later = JoinToken {
        hash: hash(count),
        broker_id: 2,
        issued_at_ms: NOW_MS + 10,
        expires_at_ms: NOW_MS + 20,
        issued_by: "operator".into(),
    };
    cluster.run(Command::IssueJoinToken {
        token: later.clone(),
    });
    assert_eq!(cluster.image.join_tokens().collect::<Vec<_>>(), [&later]);
}

#[test]
fn a_token_is_issued_once_and_its_hash_is_not_told() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(issue(2, hash(9), NOW_MS + 10));
    cluster.refused(
        issue(2, hash(9), NOW_MS + 20),
        ErrorCode::InvalidRequest,
        "this join token is issued already: make another one",
    );
    let token = JoinToken {
        hash: hash(8),
        broker_id: 3,
        issued_at_ms: NOW_MS,
        expires_at_ms: NOW_MS + 10,
        issued_by: "x".repeat(256),
    };
    cluster.refused(
        Command::IssueJoinToken { token },
        ErrorCode::InvalidRequest,
        "more than 255 bytes of a principal's name",
    );
    assert_eq!(format!("{:?}", hash(9)), "TokenHash(00000009…)");
}

#[test]
fn a_token_is_for_one_number_that_nobody_else_gets() {
    let mut cluster = Cluster::with_brokers(2);
    let next = |cluster: &Cluster, now_ms| cluster.image.next_broker_id(now_ms);
    assert_eq!(next(&cluster, NOW_MS), Some(3));
    cluster.refused(
        issue(2, hash(9), NOW_MS + 10),
        ErrorCode::NotReady,
        "there is a broker 2 already: a join token is for a number that nobody has",
    );
    cluster.run(issue(3, hash(9), NOW_MS + 10));
    assert_eq!(next(&cluster, NOW_MS), Some(4));
    cluster.refused(
        issue(3, hash(8), NOW_MS + 10),
        ErrorCode::NotReady,
        "number 3 is promised to the holder of another join token: take another one",
    );
    cluster.refused(
        joining(4, 9, NOW_MS),
        ErrorCode::NotAuthorized,
        "the join token of broker 4 is for broker 3: start it with the ticket that was made for it",
    );
    // Once it has expired, its number is free again.
    assert_eq!(next(&cluster, NOW_MS + 10), Some(3));
    cluster.run(Command::IssueJoinToken {
        token: JoinToken {
            hash: hash(8),
            broker_id: 3,
            issued_at_ms: NOW_MS + 10,
            expires_at_ms: NOW_MS + 20,
            issued_by: "operator".into(),
        },
    });
    cluster.run(joining(3, 8, NOW_MS + 10));
    cluster.run(issue(u32::MAX, hash(9), NOW_MS + 10));
    assert_eq!(next(&cluster, NOW_MS), None);
}
