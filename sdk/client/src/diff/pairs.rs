//! Which of the records that are left on both sides are versions of one another.

use std::collections::HashMap;
use std::hash::Hash;

use bytes::Bytes;

use super::Difference;
use crate::consumer::ConsumedRecord;

/// Records of one key and timestamp that are compared with each other one by one; of more, those
/// that come in the same order.
const MAX_CANDIDATES: usize = 200;

/// How much two values must share, of what the longer one is, to be taken for versions of one
/// another where there are several: a quarter.
const LEAST_SHARED: usize = 4;

/// Pairs what is left, and tells what has no counterpart.
pub(super) fn pair(
    output: &str,
    mut live: Vec<ConsumedRecord>,
    mut shadow: Vec<ConsumedRecord>,
) -> Vec<Difference> {
    let mut pairs = Vec::new();
    // Of one input record, but for its value or headers.
    pair_by(&mut live, &mut shadow, &mut pairs, |it| {
        (it.key.clone(), it.timestamp_ms)
    });
    // Of one input record, under another key.
    pair_by(&mut live, &mut shadow, &mut pairs, |it| {
        (it.value.clone(), it.timestamp_ms)
    });
    // The same, at another time.
    pair_by(&mut live, &mut shadow, &mut pairs, |it| {
        (it.key.clone(), it.value.clone())
    });
    let difference = |live, shadow| Difference {
        output: output.to_owned(),
        live,
        shadow,
    };
    let pairs = pairs
        .into_iter()
        .map(|(live, shadow)| difference(Some(live), Some(shadow)));
    let live = live.into_iter().map(|it| difference(Some(it), None));
    let shadow = shadow.into_iter().map(|it| difference(None, Some(it)));
    pairs.chain(live).chain(shadow).collect()
}

/// Takes pairs of records that have the same `trait_of` out of both sides.
fn pair_by<K: Eq + Hash>(
    live: &mut Vec<ConsumedRecord>,
    shadow: &mut Vec<ConsumedRecord>,
    pairs: &mut Vec<(ConsumedRecord, ConsumedRecord)>,
    trait_of: impl Fn(&ConsumedRecord) -> K,
) {
    if live.is_empty() || shadow.is_empty() {
        return;
    }
    let mut groups: HashMap<K, (Vec<ConsumedRecord>, Vec<ConsumedRecord>)> = HashMap::new();
    for record in live.drain(..) {
        groups.entry(trait_of(&record)).or_default().0.push(record);
    }
    for record in shadow.drain(..) {
        groups.entry(trait_of(&record)).or_default().1.push(record);
    }
    for (mut of_live, mut of_shadow) in groups.into_values() {
        pair_group(&mut of_live, &mut of_shadow, pairs);
        live.append(&mut of_live);
        shadow.append(&mut of_shadow);
    }
    // Groups come in any order.
    live.sort_by_key(|record| (record.partition, record.offset));
    shadow.sort_by_key(|record| (record.partition, record.offset));
}

/// Pairs records that may all be versions of one another: those that resemble each other most.
fn pair_group(
    live: &mut Vec<ConsumedRecord>,
    shadow: &mut Vec<ConsumedRecord>,
    pairs: &mut Vec<(ConsumedRecord, ConsumedRecord)>,
) {
    if let ([_], [_]) = (live.as_slice(), shadow.as_slice()) {
        pairs.extend(live.drain(..).zip(shadow.drain(..)));
        return;
    }
    if live.len().max(shadow.len()) > MAX_CANDIDATES {
        let both = live.len().min(shadow.len());
        pairs.extend(live.drain(..both).zip(shadow.drain(..both)));
        return;
    }
    let mut candidates = Vec::new();
    for (l, of_live) in live.iter().enumerate() {
        for (s, of_shadow) in shadow.iter().enumerate() {
            let (shared, longer) = shared(&of_live.value, &of_shadow.value);
            if shared * LEAST_SHARED >= longer {
                candidates.push((shared, l, s));
            }
        }
    }
    // Of equals the ones in the same order.
    candidates.sort_by_key(|&(shared, l, s)| (std::cmp::Reverse(shared), l.abs_diff(s), l));
    let mut counterparts: Vec<Option<usize>> = vec![None; live.len()];
    let mut taken = vec![false; shadow.len()];
    for (_, l, s) in candidates {
        if counterparts[l].is_none() && !taken[s] {
            (counterparts[l], taken[s]) = (Some(s), true);
        }
    }
    let mut of_shadow: Vec<Option<ConsumedRecord>> = shadow.drain(..).map(Some).collect();
    for (record, counterpart) in std::mem::take(live).into_iter().zip(counterparts) {
        match counterpart.and_then(|s| of_shadow[s].take()) {
            Some(counterpart) => pairs.push((record, counterpart)),
            None => live.push(record),
        }
    }
    shadow.extend(of_shadow.into_iter().flatten());
}

/// How many bytes two values share at their beginning and end, and how long the longer one is.
fn shared(a: &Option<Bytes>, b: &Option<Bytes>) -> (usize, usize) {
    let (a, b) = (a.as_deref(), b.as_deref());
    let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
    let same = |(a, b): &(&u8, &u8)| a == b;
    let before = a.iter().zip(b).take_while(same).count();
    let rest = a[before..].iter().rev().zip(b[before..].iter().rev());
    (before + rest.take_while(same).count(), a.len().max(b.len()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::diff) fn record(timestamp_ms: i64, key: &str, value: &str) -> ConsumedRecord {
        ConsumedRecord {
            topic: "alerts".into(),
            partition: 0,
            offset: 0,
            timestamp_ms,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        }
    }

    /// Each difference: its fields, or the side that it is on, and the values.
    fn told(live: &[(i64, &str, &str)], shadow: &[(i64, &str, &str)]) -> Vec<String> {
        let side = |records: &[(i64, &str, &str)]| {
            let records = records.iter().zip(0..);
            let record = records.map(|(&(at, key, value), offset)| ConsumedRecord {
                offset,
                ..record(at, key, value)
            });
            record.collect()
        };
        let value = |record: &ConsumedRecord| {
            let value = record.value.as_deref().unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let tell = |it: Difference| match (&it.live, &it.shadow) {
            (Some(live), Some(shadow)) => {
                format!(
                    "{}: {} > {}",
                    it.fields().join(" "),
                    value(live),
                    value(shadow)
                )
            }
            (Some(live), None) => format!("live: {}", value(live)),
            (None, Some(shadow)) => format!("shadow: {}", value(shadow)),
            (None, None) => unreachable!("a difference of nothing"),
        };
        let mut told: Vec<_> = pair("out", side(live), side(shadow))
            .into_iter()
            .map(tell)
            .collect();
        told.sort();
        told
    }

    #[test]
    fn one_key_and_time_is_one_record() {
        let live = [(1, "a", "old"), (2, "a", "gone")];
        let shadow = [(1, "a", "new"), (3, "a", "added")];
        let expected = ["live: gone", "shadow: added", "value: old > new"];
        assert_eq!(told(&live, &shadow), expected);
    }

    #[test]
    fn of_several_those_are_paired_that_resemble_each_other() {
        let live = [
            (1, "a", r#"{"id":"x1","mag":4.5}"#),
            (1, "a", r#"{"id":"y2","mag":5.0}"#),
            (1, "a", r#"{"id":"z3","mag":6.1}"#),
        ];
        let shadow = [
            (1, "a", r#"{"id":"y2","mag":5.0,"deep":true}"#),
            (1, "a", r#"{"id":"z3","mag":6.1,"deep":false}"#),
        ];
        let expected = [
            r#"live: {"id":"x1","mag":4.5}"#,
            r#"value: {"id":"y2","mag":5.0} > {"id":"y2","mag":5.0,"deep":true}"#,
            r#"value: {"id":"z3","mag":6.1} > {"id":"z3","mag":6.1,"deep":false}"#,
        ];
        assert_eq!(told(&live, &shadow), expected);
    }

    #[test]
    fn another_key_or_time_is_seen() {
        let live = [(1, "us", "same"), (5, "us", "late")];
        let shadow = [(1, "eu", "same"), (6, "us", "late")];
        let expected = ["key: same > same", "timestamp: late > late"];
        assert_eq!(told(&live, &shadow), expected);
    }
}
