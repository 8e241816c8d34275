//! What is too long or too much for one message.

use std::collections::BTreeMap;

use millstream_group::error::{Coded, JoinError};
use millstream_group::limits::PARTITIONS_PER_MESSAGE;

use millstream_group::{
    Coordinator, Effect, Join, Limits, MemberHandle, Outcome, Record, Reset, Topic,
};
use millstream_protocol::api::group::{CoordinatorMessage, Generation, MemberKind};
use millstream_protocol::api::offsets::Position;
use millstream_protocol::limits::{GROUPS_PER_LISTING, MAX_BODY_BYTES, MAX_NAME_BYTES};
use millstream_protocol::{ErrorCode, TopicId};
use uuid::Uuid;

fn join(group: &str, member_name: &str, topic: &str) -> Join {
    Join {
        group: group.into(),
        member: MemberHandle(1),
        member_name: member_name.into(),
        principal: "CN=a".into(),
        kind: MemberKind::Client,
        home: None,
        topics: vec![topic.into()],
        start: Position::Earliest,
    }
}

/// The generation and the number of partitions of every message that moves partitions.
fn messages<T>(outcome: &Outcome<T>) -> Vec<(Generation, usize)> {
    let message = |effect: &Effect| match effect {
        Effect::Send { message, .. } => Some(message.clone()),
        Effect::ResolveStarts { .. } => None,
    };
    let sizes = outcome
        .effects
        .iter()
        .filter_map(message)
        .filter_map(|message| {
            let bytes =
                postcard::to_stdvec(&Ok::<_, millstream_protocol::WireError>(message.clone()));
            assert!(bytes.unwrap().len() <= MAX_BODY_BYTES);
            match message {
                CoordinatorMessage::Assign {
                    generation,
                    partitions,
                }
                | CoordinatorMessage::Seek {
                    generation,
                    partitions,
                } => Some((generation, partitions.len())),
                CoordinatorMessage::Revoke {
                    generation,
                    partitions,
                } => Some((generation, partitions.len())),
                CoordinatorMessage::Joined { .. } | CoordinatorMessage::Committed(_) => None,
            }
        });
    sizes.collect()
}

#[test]
fn many_partitions_come_in_several_messages() {
    const MORE: usize = PARTITIONS_PER_MESSAGE;
    let partitions = 2 * MORE as u32 + 3;
    let name = "t".repeat(MAX_NAME_BYTES);
    let topic_id = TopicId(Uuid::max());
    let topic = Topic {
        name: name.clone(),
        topic_id,
        partitions,
        leaders: Vec::new(),
    };
    let mut coordinator = Coordinator::new(Limits::default(), [topic]);
    let joined = coordinator.join(join("g", "a", &name));
    let Some(Effect::ResolveStarts { starts, .. }) = joined.effects.last() else {
        panic!("{joined:?}")
    };
    let starts = starts
        .iter()
        .map(|start| start.clone().at(u64::MAX))
        .collect();
    let assigned = coordinator.starts_resolved("g", starts, 0);
    assert_eq!(messages(&assigned), [(1, MORE), (1, MORE), (1, 3)]);

    // Who has seen the generation of a reset has seen all of it.
    let offsets = (0..partitions)
        .map(|partition| (partition, 0))
        .collect::<BTreeMap<_, _>>();
    let reset = Reset {
        group: "g".into(),
        topic: name.clone(),
        topic_id,
        offsets,
    };
    assert_eq!(
        messages(&coordinator.reset(reset, 0)),
        [(1, MORE), (1, MORE), (2, 3)]
    );

    let moved = coordinator.join(Join {
        member: MemberHandle(2),
        ..join("g", "b", &name)
    });
    assert_eq!(messages(&moved), [(3, MORE), (3, 1)]);
}

#[test]
fn of_ten_thousand_partitions_only_those_are_touched_whose_leader_changes() {
    const PARTITIONS: u32 = 10_000;
    const MOVED: u32 = 1_000;
    let mut topic = Topic {
        name: "t".into(),
        topic_id: TopicId(Uuid::max()),
        partitions: PARTITIONS,
        leaders: vec![Some(1); PARTITIONS as usize],
    };
    let mut coordinator = Coordinator::new(Limits::default(), [topic.clone()]);
    let mut worker = |handle: u64| {
        coordinator.join(Join {
            member: MemberHandle(handle),
            kind: MemberKind::Worker,
            home: Some(handle as u32),
            ..join("g", "w", "t")
        })
    };
    let joined = worker(1);
    let Some(Effect::ResolveStarts { starts, .. }) = joined.effects.last() else {
        panic!("{joined:?}")
    };
    let starts = starts.iter().map(|start| start.clone().at(7)).collect();
    assert_eq!(messages(&worker(2)), [(1, 0)], "it stands by");
    let assigned = coordinator.starts_resolved("g", starts, 0);
    assert_eq!(messages(&assigned), [(1, PARTITIONS_PER_MESSAGE); 10]);

    for partition in 0..MOVED {
        topic.leaders[partition as usize] = Some(2);
        let outcome = coordinator.topic_updated(topic.clone(), 0);
        assert_eq!(messages(&outcome), [(2 + partition, 1)]);
        assert_eq!(outcome.records.len(), 1, "the generation");
    }
    let again = coordinator.topic_updated(topic, 0);
    assert!(again.records.is_empty() && again.effects.is_empty());
    let left = coordinator.leave(MemberHandle(1));
    assert_eq!(messages(&left), [(2 + MOVED, MOVED as usize)]);
}

#[test]
fn names_are_bounded_and_fit_for_a_listing() {
    let topic = Topic {
        name: "t".into(),
        topic_id: TopicId(Uuid::nil()),
        partitions: 1,
        leaders: Vec::new(),
    };
    let mut coordinator = Coordinator::new(Limits::default(), [topic]);
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    for (group, member_name, says) in [
        ("", "a", "the group's name is empty"),
        (long.as_str(), "a", "the group's name is too long"),
        ("g", "", "the member's name is empty"),
        ("g", long.as_str(), "the member's name is too long"),
        ("g", "a\nb", "the member's name has control characters"),
    ] {
        let outcome = coordinator.join(join(group, member_name, "t"));
        let error = outcome.response.unwrap_err();
        assert!(matches!(error, JoinError::InvalidName(_)));
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (ErrorCode::InvalidRequest, says)
        );
        assert!(outcome.records.is_empty() && outcome.effects.is_empty());
    }
    assert!(coordinator.list(None).groups.is_empty());
    let fits = coordinator.join(join(&long[1..], &long[1..], "t"));
    assert_eq!(fits.response, Ok(()));
}

#[test]
fn a_listing_goes_on_where_it_ended() {
    let mut coordinator = Coordinator::new(Limits::default(), []);
    let groups = GROUPS_PER_LISTING + 1;
    for number in 0..groups {
        coordinator.replay(&Record::Group {
            group: format!("g{number:05}"),
            generation: Some(1),
        });
    }
    let first = coordinator.list(None);
    assert_eq!((first.groups.len(), first.more), (GROUPS_PER_LISTING, true));
    let last = &first.groups[GROUPS_PER_LISTING - 1].group;
    let second = coordinator.list(Some(last));
    assert_eq!((second.groups.len(), second.more), (1, false));
    assert_eq!(second.groups[0].group, format!("g{:05}", groups - 1));
    assert!(
        coordinator
            .list(Some(&second.groups[0].group))
            .groups
            .is_empty()
    );
}
