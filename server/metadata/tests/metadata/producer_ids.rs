//! Producer ids.

use millstream_metadata::{Command, Record};
use millstream_protocol::ErrorCode;

use super::cluster::Cluster;

fn allocate(count: u32) -> Command {
    Command::AllocateProducerIds { count }
}

#[test]
fn no_two_blocks_meet() {
    let mut cluster = Cluster::with_brokers(1);
    assert_eq!(
        cluster.run(allocate(1_000)),
        Record::ProducerIdsAllocated {
            first: 0,
            count: 1_000
        }
    );
    assert_eq!(
        cluster.run(allocate(1)),
        Record::ProducerIdsAllocated {
            first: 1_000,
            count: 1
        }
    );
    assert_eq!(cluster.image.next_producer_id(), 1_001);
    cluster
        .image
        .apply(&Record::ProducerIdsAllocated { first: 5, count: 5 });
    assert_eq!(
        cluster.image.next_producer_id(),
        1_001,
        "what was handed out stays so"
    );
}

#[test]
fn a_block_has_a_size_and_the_last_one_an_end() {
    let mut cluster = Cluster::with_brokers(1);
    for count in [0, 1_000_001] {
        let says = format!("the number of producer ids is {count}, and must be from 1 to 1000000");
        cluster.refused(allocate(count), ErrorCode::InvalidRequest, &says);
    }
    cluster.image.apply(&Record::ProducerIdsAllocated {
        first: u64::MAX - 10,
        count: 5,
    });
    cluster.run(allocate(5));
    cluster.refused(allocate(1), ErrorCode::Internal, "no producer ids are left");
}
