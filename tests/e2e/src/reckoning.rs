//! What the records of a load have come to that the drill plugin has handled under a storm: each once,
//! as an output or as a dead letter, with one timer for each that was handled.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use millstream::ConsumedRecord;

use crate::history::History;
use crate::load::{Acked, Number};

/// Everything that the plugin has written.
#[derive(Debug)]
pub struct Outcome {
    /// What was emitted.
    pub outputs: History,
    /// What was given up.
    pub letters: History,
    /// What timers have emitted.
    pub fired: History,
}

/// Bytes that are text.
pub fn text(bytes: Option<&Bytes>) -> String {
    String::from_utf8(bytes.expect("some bytes").to_vec()).expect("text")
}

/// A header of a dead letter.
pub fn origin(record: &ConsumedRecord, name: &str) -> String {
    let name = format!("millstream.dead-letter.{name}");
    let header = record.headers.iter().find(|it| it.name == name.as_bytes());
    text(header.unwrap_or_else(|| panic!("no {name}")).value.as_ref())
}

fn is_of_a_timer(letter: &ConsumedRecord) -> bool {
    let mut headers = letter.headers.iter();
    headers.any(|header| header.name == b"millstream.dead-letter.timer"[..])
}

impl Outcome {
    /// Holds it against what was acknowledged, fails on any difference, and says how much it was.
    pub fn reckon(&self, acked: &[Acked]) -> String {
        let Self {
            outputs,
            letters,
            fired,
        } = self;
        // What each record has come to.
        let mut times: BTreeMap<String, u32> = BTreeMap::new();
        // The counts that the state has gone through, by input partition and producer.
        let mut counts: BTreeMap<(String, String), BTreeSet<u64>> = BTreeMap::new();
        for record in outputs.records() {
            let value = text(record.value.as_ref());
            let words: Vec<&str> = value.split(' ').collect();
            *times.entry(words[0].to_owned()).or_default() += 1;
            let producer = words[0].split('/').next().unwrap().to_owned();
            let of_state = counts.entry((words[2].to_owned(), producer)).or_default();
            assert!(
                of_state.insert(words[1].parse().unwrap()),
                "{value}: counted before"
            );
        }
        let (timer_letters, letters): (Vec<_>, Vec<_>) =
            letters.records().partition(|letter| is_of_a_timer(letter));
        for record in &letters {
            let number = Number::of(record);
            let (rejected, trapping) = (number.index % 97 == 13, number.index % 211 == 17);
            // One that wants to be seen twice by one instance may meet another after every trap.
            let retried = number.index % 53 == 7;
            assert!(
                rejected || trapping || retried,
                "{number} became a dead letter"
            );
            let attempts = if rejected { "1" } else { "20" };
            assert_eq!(origin(record, "attempts"), attempts, "{number}");
            *times.entry(number.to_string()).or_default() += 1;
        }
        let expected: BTreeSet<String> = acked.iter().map(|it| it.number.to_string()).collect();
        let lost: Vec<_> = expected
            .iter()
            .filter(|it| !times.contains_key(*it))
            .collect();
        let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        let phantoms: Vec<_> = times.keys().filter(|it| !expected.contains(*it)).collect();
        // Each that was handled has set one timer, which fires once.
        let mut fires: BTreeMap<String, u32> = BTreeMap::new();
        for record in fired.records() {
            let value = text(record.value.as_ref());
            let key = value.split(' ').next().unwrap_or_default();
            *fires.entry(key.to_owned()).or_default() += 1;
        }
        for letter in &timer_letters {
            *fires.entry(text(letter.key.as_ref())).or_default() += 1;
        }
        let first = |record: &ConsumedRecord| {
            let value = text(record.value.as_ref());
            value.split(' ').next().unwrap_or_default().to_owned()
        };
        let handled: BTreeSet<String> = outputs.records().map(first).collect();
        let not_fired: Vec<_> = handled
            .iter()
            .filter(|it| !fires.contains_key(*it))
            .collect();
        let fired_twice: Vec<_> = fires.iter().filter(|(_, times)| **times > 1).collect();
        let said = format!(
            "records {}, outputs {}, dead letters {}, timers {}, of them dead letters {}, \
         duplicates {}, losses {}",
            expected.len(),
            outputs.len(),
            letters.len(),
            fires.len(),
            timer_letters.len(),
            twice.len() + fired_twice.len(),
            lost.len() + not_fired.len()
        );
        assert!(not_fired.is_empty(), "timers lost: {not_fired:?}");
        assert!(
            fired_twice.is_empty(),
            "timers more than once: {fired_twice:?}"
        );
        assert_eq!(fires.len(), handled.len());
        assert!(!timer_letters.is_empty(), "no timer was bad");
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert!(twice.is_empty(), "more than once: {twice:?}");
        assert!(phantoms.is_empty(), "never acknowledged: {phantoms:?}");
        assert!(
            !letters.is_empty(),
            "the load was too small to meet a bad record"
        );
        // The state is what counting each handled record once comes to: no number is missing.
        for (of, counts) in &counts {
            let last = counts.last().copied().unwrap_or_default();
            assert_eq!(counts.len() as u64, last, "counts of {of:?}");
        }
        let handled: usize = counts.values().map(BTreeSet::len).sum();
        assert_eq!(handled, outputs.len());
        said
    }
}
