//! A steward among brokers that die, start again, lose their disks, cannot be reached or do not get
//! to lead, and whose beats are late, lost and repeated: whatever it says is granted, and when things
//! calm down everything is led, and journals are where their inputs are.

mod town;

use std::cell::Cell;

use millstream_metadata::Command;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use town::{Exercised, Town};

/// What happens to the town.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Kill(u32),
    /// Another process begins while the old one is still there.
    Outlive(u32),
    Wipe(u32),
    Cut(u32),
    Mend,
    /// It cannot lead, though it is there.
    Sicken(u32),
    /// It gives up a partition that it leads or is to lead, for a reason of its own.
    Stumble(u32, usize),
    Damage(u32, usize),
    Drain(u32),
    Undrain(u32),
    Reassign(usize, u64),
    Rebalance,
    /// Another broker leads the metadata quorum.
    Depose,
    /// The steward's process stands still.
    Sleep(u64),
    Create(u32, u8),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let broker = || 1u32..6;
    let factor = prop::sample::select(&[1u8, 2, 3, 3, 5][..]);
    prop_oneof![
        4 => broker().prop_map(Event::Kill),
        1 => broker().prop_map(Event::Outlive),
        1 => broker().prop_map(Event::Wipe),
        3 => broker().prop_map(Event::Cut),
        2 => Just(Event::Mend),
        1 => broker().prop_map(Event::Sicken),
        2 => (broker(), 0usize..20).prop_map(|(broker, nth)| Event::Stumble(broker, nth)),
        1 => (broker(), 0usize..20).prop_map(|(broker, nth)| Event::Damage(broker, nth)),
        1 => broker().prop_map(Event::Drain),
        1 => broker().prop_map(Event::Undrain),
        2 => (0usize..20, any::<u64>()).prop_map(|(nth, dice)| Event::Reassign(nth, dice)),
        1 => Just(Event::Rebalance),
        2 => Just(Event::Depose),
        1 => (100u64..3_000).prop_map(Event::Sleep),
        1 => (1u32..4, factor).prop_map(|(count, factor)| Event::Create(count, factor)),
        12 => (0u64..4_000).prop_map(Event::Pass),
    ]
}

fn run(seed: u64, events: &[Event]) -> (Vec<(u64, Command)>, Exercised) {
    let mut town = Town::new(seed);
    for event in events {
        town.happen(event);
    }
    town.calms();
    (town.given, town.exercised)
}

#[test]
fn whatever_happens_everything_is_led_in_the_end() {
    let exercised = Cell::new(Exercised::default());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    });
    let histories = (any::<u64>(), prop::collection::vec(event(), 1..40));
    let result = runner.run(&histories, |(seed, events)| {
        let (given, found) = run(seed, &events);
        exercised.set(exercised.get().and(found));
        // The same happens again.
        if seed % 8 == 0 {
            assert!(given == run(seed, &events).0);
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    let it = exercised.get();
    println!("{it:?}");
    assert!(
        it.fenced >= 50
            && it.elected >= 100
            && it.retried >= 40
            && it.balanced >= 30
            && it.drained >= 20
            && it.stopped >= 5
            && it.journals >= 500
            && it.followed >= 40
            && it.aligned >= 4
            && it.late >= 5
            && it.too_late >= 2,
        "{it:?}"
    );
}
