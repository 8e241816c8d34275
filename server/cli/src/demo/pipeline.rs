//! From the first record to the last alert.

use std::time::{Duration, Instant};

use anyhow::Context;
use millstream::{Admin, Client, ConsumedRecord, Consumer, Offset, Position, ProduceRecord};
use tokio::time::MissedTickBehavior;

use super::quakes::{Alerts, Quake, Quakes, difference};
use super::summary::Summary;
use super::{ALERTS, DEPLOYMENT, INPUT};
use crate::errors::{Exit, Problem};
use crate::output::{Output, Progress, count, plain};

/// How often the group's lag is looked at.
const LAG_CHECK: Duration = Duration::from_millis(50);

/// A plugin that does nothing for this long stands still.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Everything that is in motion.
pub(super) struct Pipeline<'a> {
    client: &'a Client,
    admin: Admin,
    consumer: Consumer,
    quakes: &'a Quakes,
    alerts: Alerts,
    output: Output,
    progress: Progress,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    produced_in: Duration,
    last_alert_after: Duration,
}

impl<'a> Pipeline<'a> {
    /// Opens the consumer of alerts before anything is produced.
    pub(super) async fn open(
        client: &'a Client,
        quakes: &'a Quakes,
        output: Output,
    ) -> anyhow::Result<Self> {
        let consumer = client
            .consumer()
            .topics([ALERTS])
            .start(Position::Earliest)
            .build()
            .await?;
        let progress = output.progress().endless();
        Ok(Self {
            client,
            admin: client.admin(),
            consumer,
            quakes,
            alerts: Alerts::default(),
            output,
            progress,
        })
    }

    /// Produces all events, and takes alerts until all are there and the plugin has read everything.
    pub(super) async fn run(&mut self) -> anyhow::Result<Figures> {
        let started = Instant::now();
        let producing = produce(self.client.clone(), self.quakes);
        tokio::pin!(producing);
        let mut produced_in = None;
        let mut last_alert_after = Duration::ZERO;
        let mut motion = Motion::new();
        let mut checks = tokio::time::interval(LAG_CHECK);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                produced = &mut producing, if produced_in.is_none() => {
                    produced?;
                    produced_in = Some(started.elapsed());
                }
                record = self.consumer.next() => {
                    self.take(&record?)?;
                    last_alert_after = started.elapsed();
                }
                _ = checks.tick() => {
                    let read = self.records_read().await?;
                    let all = self.quakes.events().len() as u64;
                    let lag = all.saturating_sub(read);
                    self.progress.message(|| format!("{} alerts, lag {}", count(self.alerts.count()), count(lag)));
                    if let Some(produced_in) = produced_in && lag == 0 && self.alerts.are_complete(self.quakes) {
                        self.progress.clear();
                        return Ok(Figures { produced_in, last_alert_after });
                    }
                    if motion.stopped_at(read + self.alerts.count()) {
                        return Err(self.standstill(lag).await);
                    }
                }
            }
        }
    }

    /// Takes what may still come, and compares everything with what the input must give.
    pub(super) async fn verify(&mut self, figures: Figures) -> anyhow::Result<Summary> {
        self.take_rest().await?;
        let stored = stored(&self.admin, INPUT).await?;
        let records_in = self.quakes.events().len() as u64;
        if stored != records_in {
            return Err(difference(format!(
                "{} of {} records are stored",
                count(stored),
                count(records_in)
            ))
            .into());
        }
        let group = self.admin.describe_group(DEPLOYMENT).await?;
        let lag = group
            .partitions
            .iter()
            .filter(|partition| partition.topic == INPUT)
            .map(|partition| partition.lag)
            .sum();
        if lag != 0 {
            return Err(difference(format!(
                "the plugin's lag is {} after it has read everything",
                count(lag)
            ))
            .into());
        }
        self.alerts.verify(self.quakes)?;
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(Summary {
            records_in,
            alerts_out: self.alerts.count(),
            lag,
            produce_ms: ms(figures.produced_in),
            end_to_end_ms: ms(figures.last_alert_after),
        })
    }

    /// Takes the alerts up to what is stored of them now: one too many would be among them.
    async fn take_rest(&mut self) -> anyhow::Result<()> {
        let topic = self.admin.describe_topic(ALERTS).await?;
        let mut checks = tokio::time::interval(LAG_CHECK);
        let taking = async {
            for partition in topic.partitions {
                let end = partition
                    .known_log()
                    .map_err(millstream::Error::from)?
                    .high_watermark;
                while self
                    .consumer
                    .position(ALERTS, partition.partition)
                    .is_none_or(|position| position < end)
                {
                    tokio::select! {
                        record = self.consumer.next() => self.take(&record?)?,
                        // Not every offset holds a record.
                        _ = checks.tick() => {}
                    }
                }
            }
            Ok(())
        };
        tokio::time::timeout(STANDSTILL, taking)
            .await
            .context("alerts that are stored do not come")?
    }

    fn take(&mut self, record: &ConsumedRecord) -> anyhow::Result<()> {
        let alert =
            self.alerts
                .take(self.quakes, record.key.as_deref(), record.value.as_deref())?;
        if self.output.is_json() {
            return Ok(());
        }
        let mut written = Ok(());
        self.progress
            .suspend(|| written = Output::write(line(&alert).as_bytes()));
        written
    }

    /// Records of the input that the plugin has finished.
    async fn records_read(&self) -> anyhow::Result<Offset> {
        let offsets = self.admin.group_offsets(DEPLOYMENT).await?;
        Ok(offsets
            .iter()
            .filter(|offset| offset.topic == INPUT)
            .map(|offset| offset.offset)
            .sum())
    }

    async fn standstill(&self, lag: u64) -> anyhow::Error {
        self.progress.clear();
        let workers = match self.admin.describe_plugin(DEPLOYMENT).await {
            Ok(deployment) => deployment.workers,
            Err(error) => return error.into(),
        };
        let states = workers
            .iter()
            .map(|worker| format!("{}-{}: {:?}", worker.topic, worker.partition, worker.state));
        let message = format!(
            "the plugin stands still at a lag of {} and {} alerts",
            count(lag),
            count(self.alerts.count())
        );
        let states: Vec<_> = states.collect();
        anyhow::anyhow!("workers: {}", states.join(", "))
            .context(Problem::new(Exit::Failure, message))
    }
}

/// Produces all events, keyed by id, and waits until they are stored.
async fn produce(client: Client, quakes: &Quakes) -> millstream::Result<()> {
    let producer = client.producer(INPUT).build().await?;
    for (id, line) in quakes.events() {
        producer.send(ProduceRecord::new(line).key(id)).await?;
    }
    producer.close().await
}

/// Records that are visible in a topic.
async fn stored(admin: &Admin, topic: &str) -> millstream::Result<u64> {
    let topic = admin.describe_topic(topic).await?;
    let partitions = topic.partitions.iter();
    let records = partitions.map(|it| Ok(it.known_log()?.visible_offsets()));
    records.sum()
}

/// An alert in one line.
fn line(alert: &Quake) -> String {
    let place = alert.place.as_deref().unwrap_or("somewhere");
    format!(
        "   M {:.1}  {:3}  {}\n",
        alert.mag.unwrap_or_default(),
        plain(&alert.net),
        plain(place)
    )
}

/// Tells whether anything happens.
struct Motion {
    amount: u64,
    since: Instant,
}

impl Motion {
    fn new() -> Self {
        Self {
            amount: 0,
            since: Instant::now(),
        }
    }

    /// Has nothing been added to the amount for too long?
    fn stopped_at(&mut self, amount: u64) -> bool {
        if amount != self.amount {
            *self = Self {
                amount,
                since: Instant::now(),
            };
        }
        self.since.elapsed() > STANDSTILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_in_one_line() {
        let quake = |mag, place: Option<&str>| Quake {
            id: "a".to_owned(),
            mag: Some(mag),
            net: "us".to_owned(),
            place: place.map(ToOwned::to_owned),
        };
        let text =
            line(&quake(6.0, Some("21km NNE of Hualien City, Taiwan"))) + &line(&quake(4.55, None));
        insta::assert_snapshot!(text, @r"
        M 6.0  us   21km NNE of Hualien City, Taiwan
        M 4.5  us   somewhere
        ");
    }
}
