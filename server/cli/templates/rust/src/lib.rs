//! Tells of readings above a limit, and how many there have been of that sensor.
//!
//! In: one JSON object a record, with `sensor` and `celsius`. Out, on `hot`: for each reading above
//! `limit`, the same and a count.

use std::error::Error;

use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, json, log, state};

/// The limit of a deployment that sets none.
const DEFAULT_LIMIT: f64 = 30.0;

/// One worker: what lasts from record to record. It is gone when the worker is started anew; what
/// must last longer is kept in `state`.
pub struct Worker {
    limit: f64,
    hot: Output,
}

/// Runs once, before the first record: reads the configuration and finds the outputs. An error
/// keeps the worker from starting.
pub fn init(context: &Context) -> Result<Worker, Box<dyn Error>> {
    let limit = match context.config("limit") {
        None => DEFAULT_LIMIT,
        Some(text) => text
            .parse()
            .map_err(|_| format!("limit must be a number, not `{text}`"))?,
    };
    log::info(format_args!("readings above {limit}"));
    Ok(Worker {
        limit,
        hot: context.output("hot")?,
    })
}

/// Runs for each record. It may emit any number of records, to any output.
///
/// What `?` passes on rejects the record: it is bad, and goes where the deployment sends such
/// records. `Failure::retry` has it handled again later.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut Worker,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let value = record
        .value()
        .ok_or_else(|| Failure::reject("the record has no value"))?;
    // The two fields as they are written: a string with its quotes, a number as its digits.
    let [Some(sensor), Some(celsius)] = json::fields(value, ["sensor", "celsius"])? else {
        return Err(Failure::reject("expected the fields sensor and celsius"));
    };
    let degrees: f64 = celsius.parse()?;
    if degrees <= worker.limit {
        return Ok(());
    }
    let times = count(sensor)?;
    let hot = format!(r#"{{"sensor":{sensor},"celsius":{celsius},"times":{times}}}"#);
    // The same key, time and headers, and another value.
    out.emit(
        worker.hot,
        &NewRecord::of(&record).with_value(hot.as_bytes()),
    )
}

/// Counts one more of a sensor. The state outlives the worker, and counts if the call does.
///
/// What is written for a record stays when the record is rejected later on: handed back by `plugin dlq
/// retry`, it would be counted twice. So everything that may be rejected is looked at before.
fn count(sensor: &str) -> Result<u64, Failure> {
    let before = match state::get(sensor.as_bytes())? {
        Some(bytes) => u64::from_be_bytes(bytes.as_slice().try_into()?),
        None => 0,
    };
    let times = before + 1;
    state::put(sensor.as_bytes(), &times.to_be_bytes())?;
    Ok(times)
}

#[cfg(test)]
mod tests {
    use millstream_plugin::testing::{self, Outcome};

    use super::*;

    fn run(context: &Context, lines: &[&str]) -> Vec<Outcome> {
        testing::clear_state();
        let records: Vec<_> = lines
            .iter()
            .map(|line| NewRecord::new(line.as_bytes()))
            .collect();
        let mut worker = init(context).unwrap();
        testing::run(context, &records, |record, out| {
            handle(&mut worker, record, out)
        })
        .unwrap()
    }

    fn context() -> Context {
        Context::new("test", "readings", 0).with_output("hot")
    }

    #[test]
    fn what_is_hot_is_told_and_counted() {
        let outcomes = run(
            &context(),
            &[
                r#"{"sensor":"attic","celsius":31.5}"#,
                r#"{"sensor":"attic","celsius":30}"#,
                r#"{"sensor":"attic","celsius":33}"#,
            ],
        );
        let values: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Emitted(hot) => str::from_utf8(hot.value.as_deref().unwrap()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            values,
            [
                r#"{"sensor":"attic","celsius":31.5,"times":1}"#,
                r#"{"sensor":"attic","celsius":33,"times":2}"#,
            ]
        );
    }

    #[test]
    fn the_limit_is_configured() {
        let line = r#"{"sensor":"attic","celsius":25}"#;
        assert_eq!(run(&context(), &[line]).len(), 0);
        assert_eq!(run(&context().with_config("limit", "20"), &[line]).len(), 1);
        assert!(init(&context().with_config("limit", "warm")).is_err());
    }

    #[test]
    fn what_is_no_reading_is_rejected() {
        for line in [
            "",
            "[]",
            r#"{"sensor":"attic"}"#,
            r#"{"sensor":1,"celsius":"hot"}"#,
        ] {
            let outcomes = run(&context(), &[line]);
            assert!(
                matches!(outcomes[..], [Outcome::Rejected { .. }]),
                "{line}: {outcomes:?}"
            );
        }
    }
}
