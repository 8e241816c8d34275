//! A guest of generated bindings alone: it does what a record's value tells it.

wit_bindgen::generate!({
    path: "../../../../../wit",
    world: "record-plugin",
    generate_all,
});

use std::sync::OnceLock;

use exports::millstream::plugin::lifecycle::{self, Context};
use exports::millstream::plugin::record_handler::{
    self, Header, InputRecord, Outcome, OutputRecord, Retry,
};
use millstream::plugin::state;
use wasi::config::store;

struct Plain;

export!(Plain);

static CONTEXT: OnceLock<Context> = OnceLock::new();

impl lifecycle::Guest for Plain {
    fn init(context: Context) -> Result<(), String> {
        if let Ok(Some(reason)) = store::get("refuse") {
            return Err(reason);
        }
        CONTEXT
            .set(context)
            .map_err(|_| "init was called twice".into())
    }
}

impl record_handler::Guest for Plain {
    fn handle(records: Vec<InputRecord>) -> Result<Vec<Outcome>, String> {
        let mut outcomes = Vec::with_capacity(records.len());
        for record in records {
            let command = String::from_utf8_lossy(record.value.as_deref().unwrap_or_default());
            match command.as_ref() {
                "fail" => return Err("as told".into()),
                "panic" => panic!("as told"),
                "none" => {}
                "two" => outcomes.extend([Outcome::Drop, Outcome::Drop]),
                command => outcomes.push(outcome(command, &record)),
            }
        }
        Ok(outcomes)
    }
}

fn outcome(command: &str, record: &InputRecord) -> Outcome {
    let words: Vec<_> = command.split(' ').collect();
    let number = |word: &str| word.parse::<usize>().unwrap();
    match words[..] {
        ["context"] => text(format!("{:?}", CONTEXT.get().unwrap())),
        ["show"] => text(format!("{record:?}")),
        ["forward"] => Outcome::Emit(vec![OutputRecord {
            output: 0,
            timestamp_ms: Some(record.timestamp_ms + 1),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }]),
        ["emit", count] => Outcome::Emit(vec![emitted(""); number(count)]),
        ["emit-to", output] => Outcome::Emit(vec![OutputRecord {
            output: number(output) as u32,
            ..emitted("")
        }]),
        ["emit-bytes", count] => Outcome::Emit(vec![emitted(&"v".repeat(number(count)))]),
        ["emit-at", timestamp_ms] => Outcome::Emit(vec![OutputRecord {
            timestamp_ms: Some(timestamp_ms.parse().unwrap()),
            ..emitted("")
        }]),
        ["emit-headers", count, name_bytes] => {
            let header = Header {
                name: "n".repeat(number(name_bytes)),
                value: None,
            };
            Outcome::Emit(vec![OutputRecord {
                headers: vec![header; number(count)],
                ..emitted("")
            }])
        }
        ["reject"] => Outcome::Reject("as told".into()),
        ["reject-bytes", count] => Outcome::Reject("r".repeat(number(count))),
        ["retry", after_ms] => Outcome::Retry(Retry {
            after_ms: after_ms.parse().unwrap(),
            reason: "as told".into(),
        }),
        ["count"] => {
            let key = record.key.as_deref().unwrap_or_default();
            let seen = state::get(key).unwrap().unwrap_or_default().len();
            state::put(key, &vec![0; seen + 1]).unwrap();
            text((seen + 1).to_string())
        }
        _ => Outcome::Drop,
    }
}

fn text(text: String) -> Outcome {
    Outcome::Emit(vec![emitted(&text)])
}

fn emitted(value: &str) -> OutputRecord {
    OutputRecord {
        output: 0,
        timestamp_ms: None,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    }
}
