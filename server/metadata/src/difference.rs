//! In what a deployment differs from what it was, or is declared to be, for people.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::api::offsets::Position;
use millstream_protocol::api::plugin::{
    DeliveryGuarantee, DeploymentSpec, FailureAction, FailurePolicy, HoldBack, WorkerLimits,
};

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 40;

/// Digits of a digest that tell one component from another.
const DIGITS_SHOWN: usize = 12;

/// What is shown of a value that is not there.
const UNSET: &str = "unset";

/// One setting in which two differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The setting's name in a deployment file: `config`, `limits`.
    pub setting: &'static str,
    /// What is different in it, in one line: `config limit: 30 → 31`. Values are shortened and escaped.
    pub text: String,
}

/// In what `now` differs from `before`; the order of inputs, outputs, tables and configuration says nothing.
pub fn differences(before: &DeploymentSpec, now: &DeploymentSpec) -> Vec<Difference> {
    let both = settings(before).into_iter().zip(settings(now));
    let found = both.flat_map(|((setting, before), (_, now))| {
        let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let changes = names.into_iter().filter_map(|name| {
            let (was, is) = (before.get(name), now.get(name));
            (was != is).then(|| change(setting, name, was, is))
        });
        changes.collect::<Vec<_>>()
    });
    found.collect()
}

/// That the component is another one, by the beginnings of the digests.
pub fn of_component(before: &str, now: &str) -> Option<Difference> {
    let digits = |digest: &str| digest.chars().take(DIGITS_SHOWN).collect::<String>();
    let (was, is) = (digits(before), digits(now));
    (before != now).then(|| change("component", "", Some(&was), Some(&is)))
}

fn change(
    setting: &'static str,
    name: &str,
    was: Option<&String>,
    is: Option<&String>,
) -> Difference {
    let value = |value: Option<&String>| value.map_or_else(|| UNSET.to_owned(), |it| shown(it));
    let name = shown(name);
    let space = if name.is_empty() { "" } else { " " };
    Difference {
        setting,
        text: format!("{setting}{space}{name}: {} → {}", value(was), value(is)),
    }
}

/// Escaped, and cut where it is long.
fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let mut shown: String = chars.by_ref().take(SHOWN_CHARS).flat_map(escaped).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

fn escaped(c: char) -> Vec<char> {
    if c.is_control() {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// Every setting but the component, its values by their names.
fn settings(spec: &DeploymentSpec) -> [(&'static str, BTreeMap<String, String>); 9] {
    let DeploymentSpec {
        name: _,
        inputs,
        outputs,
        config,
        start,
        limits,
        delivery,
        on_failure,
        grants,
        tables,
    } = spec;
    let one = |value: String| BTreeMap::from([(String::new(), value)]);
    let mut inputs = inputs.clone();
    inputs.sort_unstable();
    let mut grants = grants.words();
    grants.sort_unstable();
    let grants = if grants.is_empty() {
        "nothing".to_owned()
    } else {
        grants.join(" ")
    };
    let outputs = outputs.iter().map(|it| (it.name.clone(), it.topic.clone()));
    let tables = tables.iter().map(|it| (it.name.clone(), it.topic.clone()));
    [
        ("inputs", one(inputs.join(" "))),
        ("outputs", outputs.collect()),
        ("config", config.iter().cloned().collect()),
        ("from", one(start_text(*start))),
        ("limits", limits_by_name(limits)),
        ("delivery", one(delivery_text(*delivery).to_owned())),
        ("on-failure", policy_by_name(on_failure)),
        ("grants", one(grants)),
        ("tables", tables.collect()),
    ]
}

fn start_text(start: Position) -> String {
    match start {
        Position::Earliest => "earliest".to_owned(),
        Position::Latest => "latest".to_owned(),
        Position::Offset(offset) => format!("offset:{offset}"),
        Position::Time(time_ms) => format!("time:{time_ms}"),
    }
}

fn delivery_text(delivery: DeliveryGuarantee) -> &'static str {
    match delivery {
        DeliveryGuarantee::ExactlyOnce => "exactly-once",
        DeliveryGuarantee::AtLeastOnce => "at-least-once",
        DeliveryGuarantee::Deterministic => "deterministic",
    }
}

fn limits_by_name(limits: &WorkerLimits) -> BTreeMap<String, String> {
    let WorkerLimits {
        memory_bytes,
        deadline_ms,
        outputs_per_record,
        log_lines_per_second,
        state_bytes,
    } = limits;
    named([
        ("memory", size(*memory_bytes)),
        ("deadline", format!("{deadline_ms}ms")),
        ("outputs-per-record", outputs_per_record.to_string()),
        ("log-lines-per-second", log_lines_per_second.to_string()),
        ("state", size(*state_bytes)),
    ])
}

fn policy_by_name(policy: &FailurePolicy) -> BTreeMap<String, String> {
    let FailurePolicy {
        attempts,
        first_back_off_ms,
        longest_back_off_ms,
        holds_back,
        finally,
    } = policy;
    let on_retry = match holds_back {
        HoldBack::Key => "park-key",
        HoldBack::Nothing => "park",
        HoldBack::Partition => "block",
    };
    let (action, topic) = match finally {
        FailureAction::DeadLetter { topic } => ("dead-letter", Some(topic.clone())),
        FailureAction::Skip => ("skip", None),
        FailureAction::Pause => ("pause", None),
    };
    let mut values = named([
        ("attempts", attempts.to_string()),
        ("first-back-off", format!("{first_back_off_ms}ms")),
        ("longest-back-off", format!("{longest_back_off_ms}ms")),
        ("on-retry", on_retry.to_owned()),
        ("action", action.to_owned()),
    ]);
    values.extend(topic.map(|topic| ("dead-letter-topic".to_owned(), topic)));
    values
}

fn named<const N: usize>(values: [(&str, String); N]) -> BTreeMap<String, String> {
    let values = values.into_iter();
    values
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// In the largest unit in which it is a whole number.
fn size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((shift, unit)) => format!("{}{unit}", bytes >> shift),
        None => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use millstream_protocol::api::plugin::{OutputSpec, TableSpec};

    use super::*;

    fn spec() -> DeploymentSpec {
        DeploymentSpec {
            name: "heat".to_owned(),
            inputs: vec!["a".to_owned(), "b".to_owned()],
            outputs: vec![OutputSpec {
                name: "hot".to_owned(),
                topic: "x".to_owned(),
            }],
            config: vec![
                ("limit".to_owned(), "30".to_owned()),
                ("gone".to_owned(), "1".to_owned()),
            ],
            start: Position::Earliest,
            limits: WorkerLimits::default(),
            delivery: DeliveryGuarantee::ExactlyOnce,
            on_failure: FailurePolicy::default_for("heat"),
            grants: Default::default(),
            tables: Vec::new(),
        }
    }

    #[test]
    fn each_value_that_differs_is_named_with_what_it_was() {
        let before = spec();
        let mut now = spec();
        now.inputs.reverse();
        now.config.reverse();
        assert_eq!(differences(&before, &now), []);

        now.inputs.push("c\n".to_owned());
        now.outputs[0].topic = "y".repeat(41);
        now.config = vec![
            ("limit".to_owned(), "31".to_owned()),
            ("new".to_owned(), "2".to_owned()),
        ];
        now.start = Position::Offset(7);
        now.limits.memory_bytes = 128 << 20;
        now.delivery = DeliveryGuarantee::AtLeastOnce;
        now.on_failure.finally = FailureAction::Skip;
        now.grants.secrets.push("api-key".to_owned());
        now.tables.push(TableSpec {
            name: "places".to_owned(),
            topic: "p".to_owned(),
        });
        let found = differences(&before, &now);
        let texts: Vec<_> = found.iter().map(|it| it.text.as_str()).collect();
        let long = format!("outputs hot: x → {}…", "y".repeat(40));
        assert_eq!(
            texts,
            [
                "inputs: a b → a b c\\n",
                long.as_str(),
                "config gone: 1 → unset",
                "config limit: 30 → 31",
                "config new: unset → 2",
                "from: earliest → offset:7",
                "limits memory: 64MiB → 128MiB",
                "delivery: exactly-once → at-least-once",
                "on-failure action: dead-letter → skip",
                "on-failure dead-letter-topic: heat.dead-letters → unset",
                "grants: nothing → secret=api-key",
                "tables places: unset → p",
            ]
        );
        assert_eq!(found[2].setting, "config");
        assert_eq!(of_component("ab", "ab"), None);
        assert_eq!(of_component("ab", "cd").unwrap().text, "component: ab → cd");
    }
}
