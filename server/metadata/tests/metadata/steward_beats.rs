//! How the steward hears of brokers, what it tells them, and the bytes of that.

use millstream_metadata::beat::{Leads, Report, StopReason};
use millstream_metadata::limits::{ACTIVATION_LIMIT_MS, MAX_BEAT_BYTES, MAX_LEADS_PER_BEAT};
use millstream_metadata::steward::Reporter;
use millstream_metadata::{Beat, BeatAnswer, CodecError, Command, Registration, Session, Start};
use millstream_protocol::{TopicId, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

use super::cluster::{Cluster, appoint, fence, registration};
use super::format::{ID, ID_HEX, bytes, hex};
use super::steward::{Office, steward};

fn partition(number: u32) -> TopicPartition {
    TopicPartition {
        topic_id: TopicId(ID),
        partition: number,
    }
}

fn beat() -> Beat {
    Beat {
        broker_id: 300,
        start: Start {
            directory_id: ID,
            incarnation: 400,
        },
        address: "b:1".into(),
        number: 500,
        revision: 600,
        is_full: false,
        report: None,
    }
}

#[test]
fn golden_beats() {
    let head = format!("01_ac02_{ID_HEX}_9003_03623a31_f403_d804");
    let all = Report {
        since: None,
        leads: Vec::new(),
        has_more: false,
    };
    let leads = Leads {
        epoch: 300,
        is_whole: true,
    };
    let some = Report {
        since: Some(Session(300)),
        leads: vec![(partition(300), Some(leads)), (partition(1), None)],
        has_more: true,
    };
    for (is_full, report, body) in [
        (false, None, "00_00".to_owned()),
        (true, Some(all), "01_01_00_00_00".to_owned()),
        (
            false,
            Some(some),
            format!("00_01_01ac02_02_{ID_HEX}ac02_01ac0201_{ID_HEX}01_00_01"),
        ),
    ] {
        let beat = Beat {
            is_full,
            report,
            ..beat()
        };
        let expected = bytes(&format!("{head}_{body}"));
        assert_eq!(hex(&beat.encode().unwrap()), hex(&expected), "{beat:?}");
        assert_eq!(Beat::decode(&expected), Ok(beat));
    }
}

#[test]
fn golden_answers_to_beats() {
    let address = || "b:1".to_owned();
    let heard = |reported| BeatAnswer::Heard {
        session: Session(300),
        number: 500,
        reported,
    };
    for (answer, body) in [
        (heard(None), "00_ac02_f403_00"),
        (heard(Some(300)), "00_ac02_f403_01ac02"),
        (BeatAnswer::Register, "01"),
        (BeatAnswer::Stop(StopReason::Removed), "02_00"),
        (
            BeatAnswer::Stop(StopReason::LaterStart {
                incarnation: 300,
                address: address(),
            }),
            "02_01_ac02_03623a31",
        ),
        (
            BeatAnswer::Stop(StopReason::OtherDirectory { address: address() }),
            "02_02_03623a31",
        ),
        (
            BeatAnswer::Stop(StopReason::Copied { address: address() }),
            "02_03_03623a31",
        ),
    ] {
        let expected = bytes(&format!("01_{body}"));
        assert_eq!(hex(&answer.encode().unwrap()), hex(&expected), "{answer:?}");
        assert_eq!(BeatAnswer::decode(&expected), Ok(answer));
    }
}

#[test]
fn a_beat_has_its_bounds() {
    let (what, bytes, limit) = ("beat", MAX_BEAT_BYTES + 1, MAX_BEAT_BYTES);
    assert_eq!(
        Beat::decode(&vec![1; bytes]),
        Err(CodecError::TooLong { what, bytes, limit })
    );
    let leads = |count| Beat {
        report: Some(Report {
            since: None,
            leads: vec![(partition(u32::MAX), None); count],
            has_more: false,
        }),
        ..beat()
    };
    let full = leads(MAX_LEADS_PER_BEAT);
    assert_eq!(Beat::decode(&full.encode().unwrap()), Ok(full));
    let (part, count, limit) = ("partitions", MAX_LEADS_PER_BEAT + 1, MAX_LEADS_PER_BEAT);
    assert_eq!(
        Beat::decode(&leads(count).encode().unwrap()),
        Err(CodecError::TooMany {
            what,
            part,
            count,
            limit
        })
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..4) {
        if let Ok(beat) = Beat::decode(&[&[1], body.as_slice()].concat()) {
            prop_assert_eq!(Beat::decode(&beat.encode().unwrap()), Ok(beat));
        }
        if let Ok(answer) = BeatAnswer::decode(&[&[1, kind], body.as_slice()].concat()) {
            prop_assert_eq!(BeatAnswer::decode(&answer.encode().unwrap()), Ok(answer));
        }
    }
}

/// What broker 2 is told when it beats as it is not known.
fn told(office: &mut Office, change: impl FnOnce(&mut Beat)) -> BeatAnswer {
    let mut beat = office.next_beat(2);
    change(&mut beat);
    let image = &office.cluster.image;
    office.steward.beat(office.now_ms, image, &beat)
}

fn says(answer: BeatAnswer, text: &str) {
    match answer {
        BeatAnswer::Stop(reason) => assert_eq!(reason.to_string(), text),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_not_what_it_says_it_is_is_told_so_and_does_not_count() {
    let mut office = Office::new(Cluster::with_brokers(2));
    office.run(Command::RegisterBroker {
        registration: Registration {
            incarnation: 5,
            ..registration(2)
        },
    });
    let old = |it: &mut Beat| it.start.incarnation = 4;
    says(
        told(&mut office, old),
        "start 5 of this data directory has taken over at b2:9092: this is an old process or an old copy of \
         the directory",
    );
    let copied = |it: &mut Beat| it.address = "copy:1".into();
    says(
        told(&mut office, copied),
        "the same start of the same data directory is live at b2:9092: one of them is a copy",
    );
    let other = |it: &mut Beat| it.start.directory_id = Uuid::max();
    says(
        told(&mut office, other),
        "another data directory has taken over this broker's number, at b2:9092",
    );
    let unknown = |it: &mut Beat| it.broker_id = 9;
    says(
        told(&mut office, unknown),
        "this broker has been removed from the cluster",
    );
    let early = |it: &mut Beat| it.start.incarnation = 6;
    assert_eq!(told(&mut office, early), BeatAnswer::Register);
    // None of this was a sign of life.
    let mut fenced = Vec::new();
    for _ in 0..8 {
        fenced.extend(office.pass(100, &[1]));
        told(&mut office, old);
        told(&mut office, copied);
        told(&mut office, other);
        told(&mut office, early);
    }
    assert!(matches!(
        fenced[..],
        [Command::FenceBroker { broker_id: 2, .. }]
    ));
    // The one that is known may register again, and the others are what they were.
    assert_eq!(told(&mut office, |_| {}), BeatAnswer::Register);
    assert!(matches!(told(&mut office, old), BeatAnswer::Stop(_)));
    assert!(matches!(told(&mut office, other), BeatAnswer::Stop(_)));
}

#[test]
fn what_comes_late_or_twice_is_no_sign_of_life() {
    let mut office = Office::new(Cluster::with_brokers(2));
    let late = office.next_beat(2);
    office.pass(300, &[1, 2]);
    for _ in 0..6 {
        assert_eq!(office.pass(100, &[1]), []);
        let image = &office.cluster.image;
        let answer = office.steward.beat(office.now_ms, image, &late);
        assert!(matches!(answer, BeatAnswer::Heard { number: 1, .. }));
    }
    let expected = [fence(&office.cluster.image, 2)];
    assert_eq!(office.pass(100, &[1]), expected);
}

fn leads(epoch: u32) -> Option<Leads> {
    Some(Leads {
        epoch,
        is_whole: false,
    })
}

fn heard(session: u64, number: u64, reported: Option<u64>) -> BeatAnswer {
    BeatAnswer::Heard {
        session: Session(session),
        number,
        reported,
    }
}

#[test]
fn a_reporter_says_only_what_has_changed_and_says_it_until_it_was_heard() {
    let mut reporter = Reporter::new();
    reporter.leads(partition(0), leads(1));
    reporter.leads(partition(1), leads(1));
    let report = |since: Option<u64>, leads: &[(u32, Option<Leads>)]| {
        let leads = leads.iter().map(|(number, it)| (partition(*number), *it));
        Some(Report {
            since: since.map(Session),
            leads: leads.collect(),
            has_more: false,
        })
    };
    let both = [(0, leads(1)), (1, leads(1))];
    assert_eq!(reporter.beat(), (1, report(None, &both)));
    // While it is under way nothing more is said.
    reporter.leads(partition(0), leads(2));
    assert_eq!(reporter.beat(), (2, None));
    reporter.answered(&heard(7, 1, Some(1)));
    assert!(reporter.has_news());
    assert_eq!(reporter.beat(), (3, report(Some(7), &[(0, leads(2))])));
    // It was lost.
    assert_eq!(reporter.beat(), (4, None));
    reporter.answered(&heard(7, 2, Some(1)));
    assert_eq!(reporter.beat(), (5, None), "that was an answer from before");
    reporter.answered(&heard(7, 5, Some(1)));
    assert_eq!(reporter.beat(), (6, report(Some(7), &[(0, leads(2))])));
    // Its answer is lost, and a later one tells.
    assert_eq!(reporter.beat(), (7, None));
    reporter.answered(&heard(7, 7, Some(6)));
    assert!(!reporter.has_news());
    assert_eq!(reporter.beat(), (8, None));
    // Another steward wants everything.
    reporter.leads(partition(1), None);
    reporter.answered(&heard(8, 8, None));
    assert_eq!(reporter.beat(), (9, report(None, &[(0, leads(2))])));
    reporter.answered(&heard(8, 9, Some(9)));
    assert_eq!(reporter.beat(), (10, None));
}

#[test]
fn much_is_said_in_pieces() {
    let mut office = Office::new(Cluster::with_brokers(1));
    office.cluster.create("many", 5_000);
    office.lead_all();
    let mut sizes = Vec::new();
    while sizes.is_empty() || office.reporters[&1].has_news() {
        let beat = office.next_beat(1);
        sizes.push(beat.report.as_ref().unwrap().leads.len());
        let answer = office.steward.beat(0, &office.cluster.image, &beat);
        office.reporters.get_mut(&1).unwrap().answered(&answer);
    }
    assert_eq!(sizes, [2_000, 2_000, 1_000]);
    let status = office.steward.status(0, &office.cluster.image);
    assert_eq!(status.brokers[0].active, Some(5_000));
    // Another steward is told all of it anew.
    office.steward = steward(2, 0);
    office.beat(1);
    for _ in 0..3 {
        office.beat(1);
    }
    let status = office.steward.status(0, &office.cluster.image);
    assert_eq!(status.brokers[0].active, Some(5_000));
}

#[test]
fn nobody_is_blamed_who_has_not_said_everything() {
    let mut office = Office::new(Cluster::with_brokers(2));
    office.cluster.create("many", 10_000);
    office.lead_all();
    // Broker 2 is there, and says what it leads in three pieces, ever so slowly.
    for _ in 0..3 {
        for _ in 0..50 {
            let mut beat = office.next_beat(2);
            beat.report = None;
            let answer = office
                .steward
                .beat(office.now_ms, &office.cluster.image, &beat);
            office.reporters.get_mut(&2).unwrap().answered(&answer);
            assert_eq!(office.pass(100, &[1]), []);
        }
        assert!(office.reporters[&2].has_news());
        office.beat(2);
    }
    assert!(!office.reporters[&2].has_news());
    assert_eq!(office.pass(5_000, &[1, 2]), []);
    let status = office.steward.status(office.now_ms, &office.cluster.image);
    assert_eq!(status.brokers[1].active, Some(5_000));
}

#[test]
fn what_a_broker_does_not_keep_is_not_noted() {
    let mut office = Office::new(Cluster::with_brokers(2));
    let topic_id = office.cluster.create("orders", 1);
    let at = super::cluster::at(topic_id, 0);
    for at in [at, partition(7)] {
        office.reporters.entry(2).or_default().leads(at, leads(1));
    }
    office.beat(2);
    let status = office.steward.status(0, &office.cluster.image);
    assert!(status.brokers.iter().all(|it| it.active == Some(0)));
}

#[test]
fn reports_of_another_base_or_out_of_order_are_not_taken_in() {
    let mut office = Office::new(Cluster::with_brokers(1));
    let topic_id = office.cluster.create("orders", 2);
    let at = |number| super::cluster::at(topic_id, number);
    let mut send = |number, since: Option<u64>, named: &[(u32, Option<Leads>)]| {
        let report = Report {
            since: since.map(Session),
            leads: named.iter().map(|(it, leads)| (at(*it), *leads)).collect(),
            has_more: false,
        };
        let beat = Beat {
            number,
            report: Some(report),
            ..office.next_beat(1)
        };
        let image = &office.cluster.image;
        let answer = office.steward.beat(0, image, &beat);
        let BeatAnswer::Heard { reported, .. } = answer else {
            panic!("{answer:?}")
        };
        let active = office.steward.status(0, image).brokers[0]
            .active
            .unwrap_or_default();
        (reported, active)
    };
    // There is nothing that this could have changed since.
    assert_eq!(send(1, Some(1), &[(0, leads(1))]), (None, 0));
    assert_eq!(send(3, None, &[(0, leads(1))]), (Some(3), 1));
    assert_eq!(send(4, Some(9), &[(1, leads(1))]), (Some(3), 1));
    assert_eq!(send(6, Some(1), &[(1, leads(1))]), (Some(6), 2));
    // These are late, and this one comes twice.
    assert_eq!(send(5, Some(1), &[(1, None)]), (Some(6), 2));
    assert_eq!(send(2, None, &[]), (Some(6), 2));
    assert_eq!(send(6, Some(1), &[(1, None)]), (Some(6), 2));
    assert_eq!(send(7, Some(1), &[(0, None)]), (Some(7), 1));
}

#[test]
fn a_report_of_everything_that_says_less_is_understood() {
    let mut office = Office::new(Cluster::with_brokers(1));
    let partition = super::cluster::at(office.cluster.create("orders", 1), 0);
    office.lead_all();
    assert_eq!(office.pass(3_000, &[1]), []);
    let mut silent = office.next_beat(1);
    silent.report = Some(Report {
        since: None,
        leads: Vec::new(),
        has_more: false,
    });
    let image = &office.cluster.image;
    office.steward.beat(office.now_ms, image, &silent);
    assert_eq!(office.pass(ACTIVATION_LIMIT_MS, &[]), []);
    let expected = [appoint(&office.cluster.image, &[(partition, 1)])];
    assert_eq!(office.pass(200, &[]), expected);
}
