//! The broker's side of the beats: what it leads, and what the steward has not been told of that.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::TopicPartition;

use crate::beat::{BeatAnswer, Leads, Report, Session};
use crate::limits::MAX_LEADS_PER_BEAT;

/// Says what a broker leads, a piece at a time, and again until the steward has taken it in.
///
/// One report is under way at a time; beats meanwhile carry none. An answer to that beat or a later
/// one says whether the report was taken in. Where the beats go to another steward, or the link
/// begins anew, nothing needs to be said: the answers tell.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    leads: BTreeMap<TopicPartition, Leads>,
    /// Of which the steward may have heard something else, or nothing.
    unreported: BTreeSet<TopicPartition>,
    /// The steward that has been told the rest.
    since: Option<Session>,
    under_way: Option<UnderWay>,
    /// The number of the last beat.
    number: u64,
}

/// A report of which it is not known whether it was taken in.
#[derive(Clone, Debug)]
struct UnderWay {
    number: u64,
    leads: Vec<(TopicPartition, Option<Leads>)>,
}

impl Reporter {
    /// Nothing is led yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A partition is led from here on; `None`: no more.
    pub fn leads(&mut self, partition: TopicPartition, leads: Option<Leads>) {
        let before = match leads {
            Some(leads) => self.leads.insert(partition, leads),
            None => self.leads.remove(&partition),
        };
        if before != leads {
            self.unreported.insert(partition);
        }
    }

    /// Whether there is something to report that could be sent at once.
    pub fn has_news(&self) -> bool {
        self.under_way.is_none() && !self.unreported.is_empty()
    }

    /// The number of the next beat, and its report.
    pub fn beat(&mut self) -> (u64, Option<Report>) {
        self.number += 1;
        let is_due = self.since.is_none() || !self.unreported.is_empty();
        if self.under_way.is_some() || !is_due {
            return (self.number, None);
        }
        let news = self.unreported.iter().take(MAX_LEADS_PER_BEAT);
        let news = news.map(|it| (*it, self.leads.get(it).copied()));
        let under_way = UnderWay {
            number: self.number,
            leads: news.collect(),
        };
        let report = Report {
            since: self.since,
            leads: under_way.leads.clone(),
            has_more: self.unreported.len() > MAX_LEADS_PER_BEAT,
        };
        self.under_way = Some(under_way);
        (self.number, Some(report))
    }

    /// The steward has answered.
    pub fn answered(&mut self, answer: &BeatAnswer) {
        let &BeatAnswer::Heard {
            session,
            number,
            reported,
        } = answer
        else {
            return;
        };
        // An answer to an earlier beat tells nothing of the report.
        let Some(under_way) = self.under_way.take_if(|it| it.number <= number) else {
            if self.under_way.is_none() && self.since.is_some_and(|it| it != session) {
                self.begin_anew();
            }
            return;
        };
        if reported != Some(under_way.number) {
            if reported.is_none() || self.since != Some(session) {
                self.begin_anew();
            }
            return;
        }
        self.since = Some(session);
        for (partition, leads) in under_way.leads {
            if self.leads.get(&partition).copied() == leads {
                self.unreported.remove(&partition);
            }
        }
    }

    fn begin_anew(&mut self) {
        self.since = None;
        self.unreported = self.leads.keys().copied().collect();
    }
}
