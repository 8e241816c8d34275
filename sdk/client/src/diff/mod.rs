//! How the outputs of a shadow differ from those of its live deployment.
//!
//! Neither offsets nor the order of records say which output came of which input: of several input
//! partitions each deployment may have written in another order. So records are first matched by all
//! that they are (`tally`), which leaves few; those are matched by what they share (`pairs`): key
//! and timestamp, or value.
//!
//! Of a replay of a part of history, live outputs count that came of that part (`window`).
//!
//! What others have written to the same topics is passed over (`writers`).
//!
//! Both sides are read twice (`reading`): once to count, once to fetch what is left.

mod pairs;
mod reading;
mod tally;
mod window;
mod writers;

use millstream_protocol::api::replay::{ComparedOutput, Replay};

use crate::client::Client;
use crate::consumer::ConsumedRecord;
use crate::error::Result;
use reading::{Side, read_both};
use tally::Tally;
use window::Window;
use writers::{Writer, Writers};

/// Records that are left on one side of an output and are looked at one by one. What is beyond is
/// counted.
const MAX_LEFT: usize = 100_000;

/// How a shadow's outputs differ from those of its live deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginDiff {
    /// The live deployment.
    pub live: String,
    /// The shadow.
    pub shadow: String,
    /// The outputs, each with its counts.
    pub outputs: Vec<OutputDiff>,
    /// The differences, the oldest ones of each output first; no more than were asked for.
    pub differences: Vec<Difference>,
}

impl PluginDiff {
    /// Whether there is no difference.
    pub fn is_same(&self) -> bool {
        self.outputs
            .iter()
            .all(|output| output.changed + output.only_live + output.only_shadow == 0)
    }
}

/// How one output differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutputDiff {
    /// What the plugin calls it.
    pub output: String,
    /// The live deployment's topic.
    pub live_topic: String,
    /// The shadow's.
    pub shadow_topic: String,
    /// Records that both have written.
    pub equal: u64,
    /// Records that both have written, but not as the same.
    pub changed: u64,
    /// Records that only the live one has written.
    pub only_live: u64,
    /// Records that only the shadow has written.
    pub only_shadow: u64,
    /// Of a replay of a part of history: live records without a counterpart that may as well have come of other
    /// parts, by their time. They are in no other figure.
    pub left_out: u64,
    /// Records in the two topics that others have written: clients, or other deployments. They are in no other
    /// figure.
    pub of_others: u64,
    /// Records of which it is not known who has written them, because their deployment is at-least-once or its
    /// workers are no more. They are compared.
    pub of_unknown: u64,
}

/// One record that is not the same, or that one of the two has not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What the plugin calls the output.
    pub output: String,
    /// As the live deployment has written it.
    pub live: Option<ConsumedRecord>,
    /// As the shadow has.
    pub shadow: Option<ConsumedRecord>,
}

impl Difference {
    /// In which fields the two differ; none where there is one.
    pub fn fields(&self) -> Vec<&'static str> {
        let (Some(live), Some(shadow)) = (&self.live, &self.shadow) else {
            return Vec::new();
        };
        [
            ("key", live.key == shadow.key),
            ("value", live.value == shadow.value),
            ("headers", live.headers == shadow.headers),
            ("timestamp", live.timestamp_ms == shadow.timestamp_ms),
        ]
        .into_iter()
        .filter_map(|(field, same)| (!same).then_some(field))
        .collect()
    }
}

/// Compares all outputs of a replay.
pub(crate) async fn compare(
    client: &Client,
    shadow: String,
    replay: Replay,
    limit: usize,
) -> Result<PluginDiff> {
    let mut diff = PluginDiff {
        live: replay.of.clone(),
        shadow,
        outputs: Vec::with_capacity(replay.outputs.len()),
        differences: Vec::new(),
    };
    let window = Window::of(client, &replay).await?;
    let deployments = client.admin().list_plugins().await?;
    let writers = Writers::of(&deployments, &diff.live, &diff.shadow);
    for output in &replay.outputs {
        let (counted, differences) = compare_output(client, window, &writers, output).await?;
        let room = limit - diff.differences.len();
        diff.outputs.push(counted);
        diff.differences.extend(differences.into_iter().take(room));
    }
    Ok(diff)
}

async fn compare_output(
    client: &Client,
    window: Window,
    writers: &Writers,
    output: &ComparedOutput,
) -> Result<(OutputDiff, Vec<Difference>)> {
    let mut diff = OutputDiff {
        output: output.output.clone(),
        live_topic: output.live.clone(),
        shadow_topic: output.shadow.clone(),
        ..OutputDiff::default()
    };
    let mut tally = Tally::default();
    read_both(client, window, output, |side, writer, record| {
        match writers.who(writer) {
            Writer::Compared => {}
            Writer::Unknown => diff.of_unknown += 1,
            Writer::Other => {
                diff.of_others += 1;
                return Ok(());
            }
        }
        tally.count(side, &record)
    })
    .await?;
    diff.equal = tally.equal();
    let (mut live, mut shadow) = (Vec::new(), Vec::new());
    if !tally.is_even() {
        read_both(client, window, output, |side, writer, record| {
            if writers.who(writer) != Writer::Other && tally.take_left(side, &record) {
                let (left, beyond) = match side {
                    Side::Live if !window.has(record.timestamp_ms) => {
                        (&mut live, &mut diff.left_out)
                    }
                    Side::Live => (&mut live, &mut diff.only_live),
                    Side::Shadow => (&mut shadow, &mut diff.only_shadow),
                };
                match left.len() {
                    MAX_LEFT.. => *beyond += 1,
                    _ => left.push(owned(record)),
                }
            }
            Ok(())
        })
        .await?;
    }
    let mut differences = pairs::pair(&output.output, live, shadow);
    // What has no counterpart in the shadow's part may have come of another one.
    differences.retain(|difference| match (&difference.live, &difference.shadow) {
        (Some(live), None) if !window.has(live.timestamp_ms) => {
            diff.left_out += 1;
            false
        }
        _ => true,
    });
    for difference in &differences {
        match (&difference.live, &difference.shadow) {
            (Some(_), Some(_)) => diff.changed += 1,
            (Some(_), None) => diff.only_live += 1,
            (None, _) => diff.only_shadow += 1,
        }
    }
    let at = |difference: &Difference| {
        let record = difference.live.as_ref().or(difference.shadow.as_ref());
        record.map(|record| (record.timestamp_ms, record.partition, record.offset))
    };
    differences.sort_by_key(at);
    Ok((diff, differences))
}

/// A copy that keeps nothing else alive.
fn owned(record: ConsumedRecord) -> ConsumedRecord {
    use bytes::Bytes;
    use millstream_protocol::batch::Header;

    let copy = |bytes: Option<Bytes>| bytes.map(|bytes| Bytes::copy_from_slice(&bytes));
    let header = |header: Header| Header {
        name: Bytes::copy_from_slice(&header.name),
        value: copy(header.value),
    };
    ConsumedRecord {
        key: copy(record.key),
        value: copy(record.value),
        headers: record.headers.into_iter().map(header).collect(),
        ..record
    }
}
