//! Transcripts. A line that is not indented is a request; the indented lines behind it are what
//! the coordinator is expected to write (`+`), send (`member <-`), ask (`?`) and answer.
//!
//! ```text
//! topic T N                    T has N partitions from now on
//! recreate T N                 T is deleted and made again
//! delete T
//! lead T P=B...                broker B leads partition P from now on (`-`: nobody does)
//! join M NAME G T,T @POSITION  member M joins (`worker` behind it: as a worker, `worker@B`: on
//!                              broker B)
//! leave M
//! release M gN T-P...          in answer to the revocation of generation N
//! commit M gN T-P=O...         having seen generation N
//! resolve G T-P=O...           answers the last question about each partition
//! reset G T P=O...
//! admin G T-P=O...             commits from outside
//! drop G                       deletes the group
//! describe G | list | offsets G
//! restart                      a new coordinator from the log
//! purge                        forgets unknown topics
//! ```

use std::collections::{BTreeMap, BTreeSet};

use millstream_group::error::Coded;
use millstream_group::{
    Coordinator, Effect, Join, Limits, MemberHandle, Outcome, PartitionEnds, Record, Reset,
    StartWanted, Topic,
};
use millstream_protocol::TopicId;
use millstream_protocol::api::group::{
    AssignedPartition, CommitOffsets, CoordinatorMessage, MemberKind, NamedPartition, OffsetCommit,
};
use millstream_protocol::api::offsets::Position;
use uuid::Uuid;

/// Runs the requests of `transcript` and compares all of it.
pub(crate) fn check(transcript: &str) {
    check_with(Limits::default(), transcript);
}

/// As [`check`], under other limits.
pub(crate) fn check_with(limits: Limits, transcript: &str) {
    let margin = transcript.lines().filter(|line| !line.trim().is_empty());
    let margin = margin
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    let lines = transcript.lines().filter(|line| !line.trim().is_empty());
    let expected: Vec<&str> = lines.map(|line| line[margin..].trim_end()).collect();

    let mut script = Script::new(limits);
    for line in expected.iter().filter(|line| !line.starts_with(' ')) {
        script.said.push((*line).to_owned());
        script.run(line);
    }
    assert!(script.said.len() > 1, "a transcript that does nothing");
    let (said, expected) = (script.said.join("\n"), expected.join("\n"));
    assert_eq!(
        said, expected,
        "\n--- said ---\n{said}\n--- expected ---\n{expected}\n"
    );
}

struct Script {
    limits: Limits,
    coordinator: Coordinator,
    topics: BTreeMap<String, Topic>,
    incarnations: u128,
    log: Vec<Record>,
    wanted: BTreeMap<(String, NamedPartition), StartWanted>,
    now_ms: i64,
    said: Vec<String>,
}

impl Script {
    fn new(limits: Limits) -> Self {
        Self {
            limits,
            coordinator: Coordinator::new(limits, []),
            topics: BTreeMap::new(),
            incarnations: 0,
            log: Vec::new(),
            wanted: BTreeMap::new(),
            now_ms: 0,
            said: Vec::new(),
        }
    }

    fn run(&mut self, line: &str) {
        self.now_ms += 1;
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["topic", name, count] => self.topic(name, count.parse().unwrap()),
            ["recreate", name, count] => {
                self.topics.remove(*name);
                self.topic(name, count.parse().unwrap());
            }
            ["delete", name] => {
                let topic = self.topics.remove(*name).unwrap();
                let outcome = self.coordinator.topic_deleted(topic.topic_id);
                self.say(outcome, |()| None);
            }
            ["lead", name, leaders @ ..] => self.lead(name, leaders),
            ["join", member, name, group, topics, start, kind @ ..] => {
                self.join([member, name, group, topics, start], kind);
            }
            ["leave", member] => {
                let outcome = self.coordinator.leave(handle(member));
                self.say(outcome, |()| None);
            }
            ["release", member, generation, partitions @ ..] => {
                let partitions: Vec<_> = partitions.iter().map(|text| named(text)).collect();
                let generation = generation[1..].parse().unwrap();
                let outcome = self
                    .coordinator
                    .released(handle(member), generation, &partitions);
                self.say(outcome, |response| refusal(&response));
            }
            ["commit", member, generation, offsets @ ..] => {
                let generation = generation[1..].parse().unwrap();
                let outcome = self.coordinator.commit(
                    handle(member),
                    generation,
                    commits(offsets),
                    self.now_ms,
                );
                self.say(outcome, |response| refusal(&response));
            }
            ["resolve", group, offsets @ ..] => self.resolve(group, offsets),
            ["reset", group, topic, offsets @ ..] => self.reset(group, topic, offsets),
            ["admin", group, offsets @ ..] => {
                let request = CommitOffsets {
                    group: (*group).into(),
                    offsets: commits(offsets),
                };
                let outcome = self.coordinator.commit_offsets(request, self.now_ms);
                self.say(outcome, |response| refusal(&response));
            }
            ["drop", group] => {
                let outcome = self.coordinator.delete_group(group);
                self.say(outcome, |response| refusal(&response));
            }
            ["purge"] => {
                let outcome = self.coordinator.forget_unknown_topics();
                self.say(outcome, |()| None);
            }
            ["restart"] => self.restart(),
            ["describe", group] => self.describe(group),
            ["list"] => {
                for group in self.coordinator.list(None).groups {
                    let (members, generation) = (group.members, group.generation);
                    self.line(format!(
                        "{} {:?} members={members} g{generation}",
                        group.group, group.state
                    ));
                }
            }
            ["offsets", group] => {
                for commit in self.coordinator.fetch_offsets(group).offsets {
                    self.line(format!(
                        "{}-{}={}",
                        commit.topic, commit.partition, commit.offset
                    ));
                }
            }
            _ => panic!("not a request: {line}"),
        }
    }

    fn topic(&mut self, name: &str, partitions: u32) {
        let known = self.topics.get(name).map(|topic| topic.topic_id);
        let topic_id = known.unwrap_or_else(|| {
            self.incarnations += 1;
            TopicId(Uuid::from_u128(self.incarnations))
        });
        let known = self.topics.get(name);
        let topic = Topic {
            name: name.into(),
            topic_id,
            partitions,
            leaders: known.map_or_else(Vec::new, |topic| topic.leaders.clone()),
        };
        self.put(topic);
    }

    fn lead(&mut self, name: &str, leaders: &[&str]) {
        let mut topic = self.topics[name].clone();
        topic.leaders.resize(topic.partitions as usize, None);
        for (partition, leader) in leaders.iter().map(|text| text.split_once('=').unwrap()) {
            topic.leaders[partition.parse::<usize>().unwrap()] = leader.parse().ok();
        }
        self.put(topic);
    }

    fn put(&mut self, topic: Topic) {
        self.topics.insert(topic.name.clone(), topic.clone());
        let outcome = self.coordinator.topic_updated(topic, self.now_ms);
        self.say(outcome, |()| None);
    }

    fn join(&mut self, [member, name, group, topics, start]: [&str; 5], kind: &[&str]) {
        let outcome = self.coordinator.join(Join {
            group: group.into(),
            member: handle(member),
            member_name: name.into(),
            principal: format!("CN={name}"),
            kind: match kind {
                [] => MemberKind::Client,
                _ => MemberKind::Worker,
            },
            home: kind.first().and_then(|kind| {
                let (_, home) = kind.split_once('@')?;
                Some(home.parse().unwrap())
            }),
            topics: topics
                .split(',')
                .filter(|topic| *topic != "-")
                .map(str::to_owned)
                .collect(),
            start: position(start),
        });
        self.say(outcome, |response| refusal(&response));
    }

    fn resolve(&mut self, group: &str, offsets: &[&str]) {
        let answers = offsets.iter().map(|text| {
            let (partition, offset) = text.split_once('=').unwrap();
            let wanted = &self.wanted[&(group.to_owned(), named(partition))];
            wanted.clone().at(offset.parse().unwrap())
        });
        let outcome = self
            .coordinator
            .starts_resolved(group, answers.collect(), self.now_ms);
        self.say(outcome, |()| None);
    }

    fn reset(&mut self, group: &str, topic: &str, offsets: &[&str]) {
        let pairs = offsets.iter().map(|text| text.split_once('=').unwrap());
        let unknown = TopicId(Uuid::nil());
        let outcome = self.coordinator.reset(
            Reset {
                group: group.into(),
                topic: topic.into(),
                topic_id: self
                    .topics
                    .get(topic)
                    .map_or(unknown, |topic| topic.topic_id),
                offsets: pairs
                    .map(|(at, to)| (at.parse().unwrap(), to.parse().unwrap()))
                    .collect(),
            },
            self.now_ms,
        );
        self.say(outcome, |response| match response {
            Ok(reset) => Some(format!(
                "reset in g{}, {} offsets",
                reset.generation,
                reset.offsets.len()
            )),
            Err(error) => Some(refused(&error)),
        });
    }

    fn restart(&mut self) {
        let before: BTreeSet<String> = self
            .coordinator
            .snapshot()
            .iter()
            .map(|record| format!("{record:?}"))
            .collect();
        self.coordinator = Coordinator::new(self.limits, self.topics.values().cloned());
        for record in &self.log {
            self.coordinator.replay(record);
        }
        let after: BTreeSet<String> = self
            .coordinator
            .snapshot()
            .iter()
            .map(|record| format!("{record:?}"))
            .collect();
        assert_eq!(before, after, "the log makes the same state again");
    }

    fn describe(&mut self, group: &str) {
        let ends = |_| {
            Some(PartitionEnds {
                log_start_offset: 10,
                high_watermark: 100,
            })
        };
        let description = match self.coordinator.describe(group, ends) {
            Ok(description) => description,
            Err(error) => return self.line(refused(&error)),
        };
        self.line(format!(
            "{:?} g{}",
            description.state, description.generation
        ));
        for member in description.members {
            let owned: Vec<_> = member.owned.iter().map(show).collect();
            let (id, name, principal) = (member.member_id, member.member_name, member.principal);
            self.line(format!(
                "{id} {name} {principal} {:?} [{}]",
                member.kind,
                owned.join(" ")
            ));
        }
        for at in description.partitions {
            let owner = at.owner.as_deref().unwrap_or("nobody");
            let committed = at
                .committed_offset
                .map_or("none".into(), |offset| offset.to_string());
            let when = at
                .committed_at_ms
                .map_or("never".into(), |at_ms| at_ms.to_string());
            self.line(format!(
                "{}-{} {owner} committed={committed} at={when} {:?} hw={} lag={}",
                at.topic, at.partition, at.metadata, at.high_watermark, at.lag
            ));
        }
    }

    fn line(&mut self, text: String) {
        self.said.push(format!("  {text}"));
    }

    fn say<T>(&mut self, outcome: Outcome<T>, answer: impl FnOnce(T) -> Option<String>) {
        for record in outcome.records {
            self.line(show_record(&record));
            let bytes = record.encode().unwrap();
            let decoded = Record::decode(&bytes.key, bytes.value.as_deref()).unwrap();
            assert_eq!(decoded, record);
            self.log.push(decoded);
        }
        for effect in outcome.effects {
            match effect {
                Effect::Send { member, message } => {
                    self.line(format!("{member} <- {}", show_message(message)));
                }
                Effect::ResolveStarts { group, starts } => {
                    let shown: Vec<_> = starts
                        .iter()
                        .map(|start| {
                            format!("{}-{} {:?}", start.topic, start.partition, start.position)
                        })
                        .collect();
                    self.line(format!("? {group} {}", shown.join(", ")));
                    for start in starts {
                        let (topic, partition) = (start.topic.clone(), start.partition);
                        self.wanted
                            .insert((group.clone(), NamedPartition { topic, partition }), start);
                    }
                }
            }
        }
        if let Some(answer) = answer(outcome.response) {
            self.line(answer);
        }
    }
}

fn handle(text: &str) -> MemberHandle {
    MemberHandle(text.parse().unwrap())
}

fn named(text: &str) -> NamedPartition {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    NamedPartition {
        topic: topic.into(),
        partition: partition.parse().unwrap(),
    }
}

fn commits(texts: &[&str]) -> Vec<OffsetCommit> {
    let commits = texts.iter().map(|text| {
        let (partition, offset) = text.split_once('=').unwrap();
        let (offset, metadata) = offset.split_once('/').unwrap_or((offset, ""));
        let NamedPartition { topic, partition } = named(partition);
        OffsetCommit {
            topic,
            partition,
            offset: offset.parse().unwrap(),
            metadata: metadata.into(),
        }
    });
    commits.collect()
}

fn position(text: &str) -> Position {
    match text {
        "@earliest" => Position::Earliest,
        "@latest" => Position::Latest,
        _ => match text[1..].split_at(1) {
            ("t", time) => Position::Time(time.parse().unwrap()),
            _ => Position::Offset(text[1..].parse().unwrap()),
        },
    }
}

fn refusal<T, E: Coded>(response: &Result<T, E>) -> Option<String> {
    response.as_ref().err().map(|error| refused(error))
}

fn refused(error: &dyn Coded) -> String {
    format!("! {:?}: {error}", error.code())
}

fn show(at: &NamedPartition) -> String {
    format!("{}-{}", at.topic, at.partition)
}

fn show_record(record: &Record) -> String {
    match record {
        Record::Group {
            group,
            generation: Some(generation),
        } => format!("+ {group} g{generation}"),
        Record::Group {
            group,
            generation: None,
        } => format!("+ {group} deleted"),
        Record::Offset {
            group,
            committed: Some(at),
            partition,
        } => {
            format!(
                "+ {group} {}-{}={}",
                at.topic, partition.partition, at.offset
            )
        }
        Record::Offset {
            group,
            committed: None,
            partition,
        } => {
            format!(
                "+ {group} #{}-{} forgotten",
                partition.topic_id.0.as_u128(),
                partition.partition
            )
        }
    }
}

fn show_message(message: CoordinatorMessage) -> String {
    let starts = |partitions: Vec<AssignedPartition>| {
        let shown = partitions
            .iter()
            .map(|at| format!(" {}-{}@{}", at.topic, at.partition, at.offset));
        shown.collect::<String>()
    };
    match message {
        CoordinatorMessage::Joined {
            member_id,
            generation,
        } => format!("joined {member_id} g{generation}"),
        CoordinatorMessage::Assign {
            generation,
            partitions,
        } => {
            format!("assign g{generation}{}", starts(partitions))
        }
        CoordinatorMessage::Seek {
            generation,
            partitions,
        } => format!("seek g{generation}{}", starts(partitions)),
        CoordinatorMessage::Revoke {
            generation,
            partitions,
        } => {
            let shown: String = partitions
                .iter()
                .map(|at| format!(" {}", show(at)))
                .collect();
            format!("revoke g{generation}{shown}")
        }
        CoordinatorMessage::Committed(Ok(())) => "committed".to_owned(),
        CoordinatorMessage::Committed(Err(error)) => format!("refused {:?}: {error}", error.code),
    }
}
