//! The plugins' twins: the same handlers, linked into this program, over the same batches.

use std::hint::black_box;
use std::time::Instant;

use anyhow::anyhow;
use millstream_plugin::{Context, process};
use millstream_protocol::batch::{BatchBuilder, Compression};

use super::plugins::Work;
use super::quakes::quake;

/// Records of a batch, as the worker's topic has them.
pub(in crate::bench) const BATCH_RECORDS: u64 = 1_000;

/// Batches of a call: a worker reads about a mebibyte.
const CALL_BATCHES: u64 = 9;

const MAX_BATCH_BYTES: usize = 1 << 20;

/// One call, whose outcomes are appended.
type Handle = dyn FnMut(&mut Vec<u8>) -> Result<(), String>;

/// Handles about `records` earthquakes, call by call; the records in a second.
pub(in crate::bench) fn run(work: Work, records: u64) -> anyhow::Result<f64> {
    let context = context(work);
    let call = call()?;
    let mut out = Vec::new();
    // What a guest keeps from call to call, this keeps as well.
    let mut handle: Box<Handle> = match work {
        Work::Json => {
            let mut plugin = quake_alert::init(&context).map_err(|error| anyhow!("{error}"))?;
            Box::new(move |out| {
                process(&context, &call, out, |record, outputs| {
                    quake_alert::handle(&mut plugin, record, outputs)
                })
            })
        }
        Work::Drop | Work::Copy | Work::Get | Work::Put | Work::Remember | Work::Spin => {
            let mut plugin = bench_plugin::init(&context).map_err(|error| anyhow!("{error}"))?;
            Box::new(move |out| {
                process(&context, &call, out, |record, outputs| {
                    bench_plugin::handle(&mut plugin, record, outputs)
                })
            })
        }
    };
    let calls = records.div_ceil(BATCH_RECORDS * CALL_BATCHES);
    let begun = Instant::now();
    for _ in 0..calls {
        out.clear();
        handle(&mut out).map_err(anyhow::Error::msg)?;
        black_box(&out);
    }
    let handled = calls * BATCH_RECORDS * CALL_BATCHES;
    Ok(handled as f64 / begun.elapsed().as_secs_f64())
}

fn context(work: Work) -> Context {
    let mut context = Context::new("bench", "input", 0).with_output(work.output());
    for (key, value) in work.config() {
        context = context.with_config(*key, *value);
    }
    context
}

/// The batches of one call.
fn call() -> anyhow::Result<Vec<u8>> {
    let mut call = Vec::new();
    for batch in 0..CALL_BATCHES {
        let mut builder = BatchBuilder::new(Compression::None, MAX_BATCH_BYTES);
        for index in 0..BATCH_RECORDS {
            let value = quake(batch * BATCH_RECORDS + index);
            builder.append(0, None, Some(value.as_bytes()), &[])?;
        }
        call.extend_from_slice(&builder.finish(None)?);
    }
    Ok(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_twin_runs() {
        let all = [
            Work::Drop,
            Work::Json,
            Work::Copy,
            Work::Get,
            Work::Put,
            Work::Remember,
        ];
        for work in all {
            assert!(run(work, 1).unwrap() > 0.0, "{work}");
        }
    }
}
