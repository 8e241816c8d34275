//! Offsets in a topic's partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_protocol::api::offsets::{DeleteRecords, ListOffsets, ListedOffset, Position};
use millstream_protocol::limits::MAX_ITEMS_PER_REQUEST;
use millstream_protocol::{Advice, ErrorCode, Offset, PartitionIndex, WireError};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Admin;
use crate::backoff::Backoff;
use crate::brokers::BrokerId;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::leaders::{LedPartition, TopicLeaders};
use crate::route::is_unknown;

impl Admin {
    /// Where positions of a topic's partitions are, in the order asked. Each question is answered on
    /// its own: one unknown partition does not spoil the others. What a partition's leader cannot say
    /// yet is asked again within the request timeout.
    pub async fn list_offsets(
        &self,
        topic: impl Into<String>,
        positions: impl IntoIterator<Item = (PartitionIndex, Position)>,
    ) -> Result<Vec<Result<ListedOffset, WireError>>> {
        let questions = positions.into_iter().map(|(partition, position)| Question {
            partition,
            position,
            answer: None,
        });
        let listing = Listing {
            leaders: self.client.leaders(&topic.into()),
            client: self.client.clone(),
            questions: questions.collect(),
        };
        listing.run().await
    }

    /// Where one position of one partition is.
    pub async fn offset(
        &self,
        topic: impl Into<String>,
        partition: PartitionIndex,
        position: Position,
    ) -> Result<ListedOffset> {
        let mut offsets = self.list_offsets(topic, [(partition, position)]).await?;
        let listed = offsets
            .pop()
            .ok_or_else(|| Error::unexpected("no offset"))?;
        Ok(listed?)
    }

    /// Forgets the records of a partition below an offset, and gives the first offset still there.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::OffsetOutOfRange`] when the offset lies above the high watermark.
    pub async fn delete_records(
        &self,
        topic: impl Into<String>,
        partition: PartitionIndex,
        before_offset: Offset,
    ) -> Result<Offset> {
        let request = DeleteRecords {
            topic: topic.into(),
            partition,
            before_offset,
        };
        Ok(self.client.call(request).await?.log_start_offset)
    }
}

/// Questions about one topic. Each is put to the leader of its partition.
struct Listing {
    client: Client,
    leaders: Arc<TopicLeaders>,
    questions: Vec<Question>,
}

struct Question {
    partition: PartitionIndex,
    position: Position,
    /// The last one: it may be to ask again.
    answer: Option<Result<ListedOffset, WireError>>,
}

impl Question {
    fn is_open(&self) -> bool {
        match &self.answer {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(refusal)) => refusal.code.advice() != Advice::GiveUp,
        }
    }
}

impl Listing {
    async fn run(mut self) -> Result<Vec<Result<ListedOffset, WireError>>> {
        let timeout = self.client.request_timeout();
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::default();
        let mut failure = Error::Timeout {
            what: "the request",
            after: timeout,
        };
        while self.questions.iter().any(Question::is_open) {
            match timeout_at(deadline, self.ask_all()).await {
                Ok(Err(error)) if error.advice() == Advice::GiveUp => return Err(error),
                Ok(Err(error)) => failure = error,
                Ok(Ok(())) => {}
                Err(_) => break,
            }
            if self.questions.iter().any(Question::is_open) {
                let resume_at = Instant::now() + backoff.after_failure();
                if resume_at >= deadline {
                    break;
                }
                sleep_until(resume_at).await;
            }
        }
        let answers = self.questions.into_iter().map(|question| question.answer);
        answers.collect::<Option<_>>().ok_or(failure)
    }

    /// Puts all open questions once. An error is the last one that left questions without an answer.
    async fn ask_all(&mut self) -> Result<()> {
        let mut parts: BTreeMap<Option<BrokerId>, Vec<usize>> = BTreeMap::new();
        for (place, question) in self.questions.iter().enumerate() {
            if question.is_open() {
                let led = LedPartition {
                    near: None,
                    leaders: Arc::clone(&self.leaders),
                    partition: question.partition,
                };
                let belief = self.client.find_leader(&led);
                parts.entry(belief.await.leader).or_default().push(place);
            }
        }
        let mut outcome = Ok(());
        for (leader, places) in parts {
            for places in places.chunks(MAX_ITEMS_PER_REQUEST) {
                match self.ask(leader, places).await {
                    Err(error) if error.advice() == Advice::GiveUp => return Err(error),
                    Err(error) => outcome = Err(error),
                    Ok(()) => {}
                }
            }
        }
        outcome
    }

    /// Puts the questions at these places to one leader.
    async fn ask(&mut self, leader: Option<BrokerId>, places: &[usize]) -> Result<()> {
        let version = self.leaders.belief(0).version;
        let topic = &self.leaders.topic;
        let questions = places.iter().map(|place| &self.questions[*place]);
        let request = ListOffsets {
            topic: topic.to_string(),
            positions: questions.map(|it| (it.partition, it.position)).collect(),
        };
        let asking = async {
            self.client
                .links()
                .toward(leader)
                .await?
                .ask(request, None)
                .await
        };
        let answers = match asking.await {
            Ok(response) if response.offsets.len() == places.len() => response.offsets,
            Ok(_) => return Err(Error::unexpected("fewer or more offsets than asked for")),
            Err(Error::Broker(refusal)) if is_unknown(refusal.code) => {
                return Err(match self.client.partitions_of(topic, None).await {
                    0 => refusal,
                    _ => not_yet(refusal),
                }
                .into());
            }
            Err(error) => {
                self.leaders.note_failure(version, &error);
                return Err(error);
            }
        };
        let mut partitions = None;
        for (place, answer) in places.iter().zip(answers) {
            let question = &mut self.questions[*place];
            let answer = match answer {
                Err(refusal) if is_unknown(refusal.code) => {
                    let partitions = match partitions {
                        Some(partitions) => partitions,
                        None => {
                            let there = self.client.partitions_of(topic, None).await;
                            *partitions.insert(there)
                        }
                    };
                    let is_there = (question.partition as usize) < partitions;
                    Err(if is_there { not_yet(refusal) } else { refusal })
                }
                Err(refusal) => {
                    self.leaders.note_refusal(version, &refusal);
                    Err(refusal)
                }
                answer => answer,
            };
            question.answer = Some(answer);
        }
        Ok(())
    }
}

/// What a leader does not know, and is there all the same, is to be asked again.
fn not_yet(refusal: WireError) -> WireError {
    WireError::new(ErrorCode::NotReady, refusal.message)
}
