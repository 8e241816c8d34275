use millstream::{GroupPartition, MemberDescription, NamedPartition};

use super::*;
use crate::output::both_forms;

fn group() -> GroupDescription {
    let member = |id: &str, owned: &[u32]| MemberDescription {
        member_id: id.to_owned(),
        member_name: "billing".to_owned(),
        principal: "millstream://client/alice".to_owned(),
        kind: MemberKind::Client,
        owned: owned
            .iter()
            .map(|&partition| NamedPartition {
                topic: "orders".to_owned(),
                partition,
            })
            .collect(),
    };
    let partition =
        |partition, owner: Option<&str>, committed_offset: Option<u64>| GroupPartition {
            topic: "orders".to_owned(),
            partition,
            owner: owner.map(ToOwned::to_owned),
            committed_offset,
            committed_at_ms: committed_offset.map(|_| 1_517_270_400_000),
            metadata: String::new(),
            high_watermark: 1_500,
            lag: 1_500 - committed_offset.unwrap_or(0),
        };
    GroupDescription {
        group: "billing".to_owned(),
        state: GroupState::Stable,
        generation: 2,
        members: vec![member("billing-1", &[0, 1]), member("billing-2", &[])],
        partitions: vec![
            partition(0, Some("billing-1"), Some(1_490)),
            partition(1, None, None),
        ],
    }
}

#[test]
fn a_group_in_full() {
    insta::assert_snapshot!(both_forms(&GroupView::of(&group())), @r#"
    group:      billing
    state:      stable
    generation: 2
    lag:        1,510

    MEMBER   ID         KIND    PRINCIPAL                  OWNS
    billing  billing-1  client  millstream://client/alice  orders-0 orders-1
    billing  billing-2  client  millstream://client/alice  nothing: it stands by

    TOPIC   PARTITION  COMMITTED  HIGH WATERMARK    LAG  COMMITTED AT              OWNER
    orders          0      1,490           1,500     10  2018-01-30T00:00:00.000Z  billing-1
    orders          1          -           1,500  1,500  -                         -
    ---
    {
      "group": "billing",
      "state": "stable",
      "generation": 2,
      "lag": 1510,
      "members": [
        {
          "member_id": "billing-1",
          "member_name": "billing",
          "principal": "millstream://client/alice",
          "kind": "client",
          "owned": [
            "orders-0",
            "orders-1"
          ]
        },
        {
          "member_id": "billing-2",
          "member_name": "billing",
          "principal": "millstream://client/alice",
          "kind": "client",
          "owned": []
        }
      ],
      "partitions": [
        {
          "topic": "orders",
          "partition": 0,
          "owner": "billing-1",
          "committed_offset": 1490,
          "committed_at_ms": 1517270400000,
          "metadata": "",
          "high_watermark": 1500,
          "lag": 10
        },
        {
          "topic": "orders",
          "partition": 1,
          "owner": null,
          "committed_offset": null,
          "committed_at_ms": null,
          "metadata": "",
          "high_watermark": 1500,
          "lag": 1500
        }
      ]
    }
    "#);
}

#[test]
fn groups_a_line_each() {
    let listed = ListedGroup {
        group: "billing".to_owned(),
        state: GroupState::Empty,
        members: 0,
        generation: 7,
    };
    insta::assert_snapshot!(both_forms(&Groups::of(&[listed])), @r#"
    GROUP    STATE  MEMBERS  GENERATION
    billing  empty        0           7
    ---
    {
      "groups": [
        {
          "group": "billing",
          "state": "empty",
          "members": 0,
          "generation": 7
        }
      ]
    }
    "#);
}

#[test]
fn offsets_set_anew() {
    let offset = OffsetCommit {
        topic: "orders".to_owned(),
        partition: 1,
        offset: 1_000,
        metadata: String::new(),
    };
    let response = ResetGroupResponse {
        generation: 3,
        offsets: vec![offset],
    };
    insta::assert_snapshot!(both_forms(&Reset::of("billing".to_owned(), &response)), @r#"
    TOPIC   PARTITION  NEXT OFFSET  METADATA
    orders          1        1,000  -
    ---
    {
      "group": "billing",
      "generation": 3,
      "offsets": [
        {
          "topic": "orders",
          "partition": 1,
          "offset": 1000,
          "metadata": ""
        }
      ]
    }
    "#);
}
