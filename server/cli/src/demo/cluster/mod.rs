//! `millstream demo-cluster`: three brokers on one machine, of which one is killed under load.
//!
//! Nothing may be lost and nothing twice, and the partitions that the killed broker led are to be written
//! again soon. All of it is in a temporary folder; the user's own brokers and profile are not touched.
//!
//! # Layout
//!
//! - `brokers`: the brokers, child processes, and what is asked of them
//! - `load`: an idempotent producer that goes on whatever happens, and what was acknowledged to it
//! - `read_back`: what is in the topic, beside what was acknowledged
//! - `summary`: what is told at the end

mod brokers;
mod load;
mod read_back;
mod summary;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use millstream::{Client, TopicDescription};

use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::interrupt::{Interrupted, Interrupts};
use crate::output::{Output, count, elapsed};
use brokers::{BROKERS, Brokers};
use load::Load;
use summary::Summary;

/// The topic that is written to.
const TOPIC: &str = "orders";

/// Its partitions: about one is led by each broker.
const PARTITIONS: u32 = 3;

/// Records acknowledged before the broker is killed.
const RECORDS_BEFORE: u64 = 2_000;

/// And after each step that follows.
const RECORDS_BETWEEN: u64 = 500;

/// How long it may take until the partitions of the killed broker are written again.
const FAIL_OVER_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take until every replica has what it should.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);

/// Runs the demo and stops what it has started, however it ends.
pub(crate) async fn run(context: &Context, interrupts: &mut Interrupts) -> anyhow::Result<()> {
    let output = context.output;
    let mut brokers = Brokers::make()?;
    let outcome = interrupts.unless(process(&mut brokers, output)).await;
    if outcome
        .as_ref()
        .is_err_and(|error| !error.is::<Interrupted>())
    {
        brokers.show_logs();
    }
    let summary = outcome?;
    // Nobody needs what they have: they are not asked to hand over what they lead, one after the other.
    drop(brokers);
    output.say("7. ended the brokers and removed their data\n");
    output.print(&summary)
}

/// The demo itself.
async fn process(brokers: &mut Brokers, output: Output) -> anyhow::Result<Summary> {
    output.say(format_args!(
        "1. making a cluster of {BROKERS} brokers in {}",
        brokers.folder().display()
    ));
    brokers.start_all().await?;
    for broker in 1..=BROKERS {
        output.say(format_args!(
            "   broker {broker}: process {} at {}",
            brokers.process_id(broker)?,
            brokers.address(broker)
        ));
    }
    show_status(brokers, 1, output)?;

    let client = brokers.client(1..=BROKERS).await?;
    let topic = make_topic(&client).await?;
    // A topic is there before each of its leaders has begun to lead.
    brokers.until_whole(1, CATCH_UP_LIMIT).await?;
    output.say(format_args!(
        "2. made the topic {TOPIC}: {PARTITIONS} partitions, each with {BROKERS} replicas; an acknowledged \
         record is on the disks of two"
    ));
    let mut load = Load::start(&client, TOPIC).await?;
    load.until_acknowledged(RECORDS_BEFORE).await?;
    output.say(format_args!(
        "3. an idempotent producer sends {} records a second: {} are acknowledged",
        count(load::PER_SECOND),
        count(load.acknowledged())
    ));

    let victim = topic.partitions[0].leader;
    let led: Vec<u32> = topic
        .partitions
        .iter()
        .filter(|it| it.leader == victim)
        .map(|it| it.partition)
        .collect();
    let survivor = (1..=BROKERS)
        .find(|it| *it != victim)
        .context("a cluster has several brokers")?;
    let process_id = brokers.process_id(victim)?;
    let killed_at = brokers.kill(victim)?;
    output.say(format_args!(
        "4. killed broker {victim} (SIGKILL to process {process_id}), the leader of {}",
        partitions(&led)
    ));
    let written = load.until_written_after(killed_at, &led);
    let written_at = tokio::time::timeout(FAIL_OVER_LIMIT, written)
        .await
        .map_err(|_| {
            let limit = FAIL_OVER_LIMIT.as_secs();
            let what = partitions(&led);
            Problem::new(
                Exit::Damaged,
                format!("nothing was acknowledged in {what} for {limit} s"),
            )
        })??;
    let fail_over = written_at - killed_at;
    output.say(format_args!(
        "   {} after the kill the first record was acknowledged there by another leader",
        elapsed(fail_over)
    ));
    show_status(brokers, survivor, output)?;
    load.until_acknowledged(load.acknowledged() + RECORDS_BETWEEN)
        .await?;

    let missed = client.admin().describe_topic(TOPIC).await?;
    let started_at = Instant::now();
    brokers.start(victim).await?;
    output.say(format_args!("5. started broker {victim} again"));
    brokers.until_has(victim, &missed, CATCH_UP_LIMIT).await?;
    let caught_up = started_at.elapsed();
    output.say(format_args!(
        "   {} after its start it has all that it had missed, while records went on coming",
        elapsed(caught_up)
    ));
    load.until_acknowledged(load.acknowledged() + RECORDS_BETWEEN)
        .await?;
    brokers.until_whole(survivor, CATCH_UP_LIMIT).await?;
    show_status(brokers, survivor, output)?;

    let acknowledged = load.finish().await?;
    output.say(format_args!(
        "6. stopped the producer at {} records; reading everything back",
        count(acknowledged.len() as u64)
    ));
    let verdict = read_back::read_back(&client, TOPIC, &acknowledged).await?;
    let all = client.admin().describe_topic(TOPIC).await?;
    brokers.until_has(victim, &all, CATCH_UP_LIMIT).await?;
    client.close();
    verdict.demand_clean()?;
    Ok(Summary::new(&verdict, fail_over, caught_up))
}

async fn make_topic(client: &Client) -> anyhow::Result<TopicDescription> {
    let admin = client.admin();
    let topic = admin.create_topic(TOPIC).partitions(PARTITIONS);
    topic.replication_factor(BROKERS as u8).await?;
    Ok(admin.describe_topic(TOPIC).await?)
}

/// What `millstream cluster status` prints.
fn show_status(brokers: &Brokers, from: u32, output: Output) -> anyhow::Result<()> {
    let status = brokers.status(from)?;
    output.say("   $ millstream cluster status");
    for line in status.lines() {
        output.say(format_args!("   {line}").to_string().trim_end());
    }
    output.say("");
    Ok(())
}

fn partitions(numbers: &[u32]) -> String {
    let named: Vec<String> = numbers.iter().map(|it| format!("{TOPIC}-{it}")).collect();
    named.join(" and ")
}
