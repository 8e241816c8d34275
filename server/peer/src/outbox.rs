//! What waits to be sent to one peer: ranges of logs and short messages, never entries.
//!
//! A pure state machine. It has two lanes, each of which is a stream of its own: messages with a span,
//! whose entries may be many, and all the others, which are few bytes and do not wait for them. Between
//! the two, messages may overtake each other, as the protocol allows; within a lane those of one
//! partition do not. Within a lane partitions take turns.
//!
//! What is merged here says nothing that was not true of its sender when the last part of it was
//! handed in.

mod append;
mod ring;

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_protocol::{Offset, TopicPartition};
use millstream_replication::{Message, Span};

use self::append::Append;
use self::ring::Ring;
use crate::entries::Entries;
use crate::limits::{MAX_WORDS_PER_PARTITION, SHORT_TURNS};

/// Which of the two streams a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Messages with a span.
    Spans,
    /// All others.
    Words,
}

/// A message that is to be sent.
pub(crate) struct Outgoing {
    pub(crate) partition: TopicPartition,
    pub(crate) message: Message,
    /// Where its span's entries are; there need be none if the span is empty.
    pub(crate) entries: Option<Arc<dyn Entries>>,
}

/// A partition's messages with spans: of each kind, what is newest.
#[derive(Default)]
struct Spans {
    append: Option<Append>,
    fetched: Option<Outgoing>,
}

/// What waits for one peer.
#[derive(Default)]
pub(crate) struct Outbox {
    is_open: bool,
    /// Partitions that had no entries to send when they began to wait.
    short: Ring<Spans>,
    /// Partitions that have.
    long: Ring<Spans>,
    /// Partitions whose entries are to wait.
    held: Ring<Option<Append>>,
    /// Turns of the first that were taken since one of the second.
    short_turns: usize,
    words: Ring<VecDeque<Message>>,
}

impl Outbox {
    /// There is a link: what is handed in from here on is sent.
    pub(crate) fn open(&mut self) {
        *self = Self {
            is_open: true,
            ..Self::default()
        };
    }

    /// There is none: everything that waits is lost.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }

    /// Takes a message, and says which lane has something to send now. `None` if it is lost: there is
    /// no link, or its entries are nowhere.
    pub(crate) fn push(&mut self, outgoing: Outgoing) -> Option<Lane> {
        let Outgoing {
            partition,
            message,
            entries,
        } = outgoing;
        if !self.is_open {
            return None;
        }
        if span_of(&message).is_some_and(has_entries) && entries.is_none() {
            return None;
        }
        match Append::of(message, entries) {
            Ok(append) => self.append(partition, append),
            Err((message @ Message::Fetched { .. }, entries)) => {
                self.fetched(Outgoing {
                    partition,
                    message,
                    entries,
                });
            }
            Err((message, _)) => {
                self.word(partition, message);
                return Some(Lane::Words);
            }
        }
        Some(Lane::Spans)
    }

    /// What is to be sent next. Its turn is over: what it leaves is [put back](Self::put_back).
    pub(crate) fn next(&mut self, lane: Lane) -> Option<Outgoing> {
        match lane {
            Lane::Spans => self.next_span(),
            Lane::Words => self.next_word(),
        }
    }

    /// What is left of a message with a span. What was handed in meanwhile comes behind it, or in its
    /// place.
    pub(crate) fn put_back(&mut self, rest: Outgoing) {
        let partition = rest.partition;
        let Ok(rest) = Append::of(rest.message, rest.entries) else {
            return;
        };
        if !self.is_open {
            return;
        }
        let slot = self.spans(partition, rest.has_entries());
        slot.append = Some(match slot.append.take() {
            Some(newer) => rest.followed_by(newer),
            None => rest,
        });
    }

    /// A message that is to wait. What is handed in for its partition meanwhile waits with it.
    pub(crate) fn hold(&mut self, outgoing: Outgoing) {
        let partition = outgoing.partition;
        let Ok(append) = Append::of(outgoing.message, outgoing.entries) else {
            return;
        };
        if !self.is_open {
            return;
        }
        let rings = [&mut self.long, &mut self.short];
        let mut slots = rings.into_iter().filter_map(|it| it.get_mut(partition));
        let newer = slots.find_map(|slot| slot.append.take());
        *self.held.entry(partition) = Some(match newer {
            Some(newer) => append.followed_by(newer),
            None => append,
        });
    }

    /// Whether there are such.
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// The first of them, which waits no longer.
    pub(crate) fn next_held(&mut self) -> Option<Outgoing> {
        let (partition, append) = self.held.pop()?;
        let (message, entries) = append?.into_message();
        Some(Outgoing {
            partition,
            message,
            entries,
        })
    }

    fn append(&mut self, partition: TopicPartition, append: Append) {
        if self.held.contains(partition) {
            let slot = self.held.entry(partition);
            *slot = Some(match slot.take() {
                Some(older) => older.followed_by(append),
                None => append,
            });
            return;
        }
        let slot = self.spans(partition, append.has_entries());
        slot.append = Some(match slot.append.take() {
            Some(older) => older.followed_by(append),
            None => append,
        });
    }

    /// Who has asked for entries asks for others only when it has had these or wants them no more.
    fn fetched(&mut self, outgoing: Outgoing) {
        let partition = outgoing.partition;
        self.spans(partition, true).fetched = Some(outgoing);
    }

    fn word(&mut self, partition: TopicPartition, message: Message) {
        let waiting = self.words.entry(partition);
        if let Message::Ack(newer) = &message
            && let Some(older) = waiting.iter_mut().find_map(|it| match it {
                Message::Ack(older)
                    if (older.epoch, older.directory) == (newer.epoch, newer.directory) =>
                {
                    Some(older)
                }
                _ => None,
            })
        {
            let answers = older.answers || newer.answers;
            *older = millstream_replication::Ack { answers, ..*newer };
            return;
        }
        if waiting.len() == MAX_WORDS_PER_PARTITION {
            waiting.pop_front();
        }
        waiting.push_back(message);
    }

    /// The messages with spans of a partition, which waits for its turn from here on if it did not.
    fn spans(&mut self, partition: TopicPartition, has_entries: bool) -> &mut Spans {
        match has_entries && !self.short.contains(partition) || self.long.contains(partition) {
            true => self.long.entry(partition),
            false => self.short.entry(partition),
        }
    }

    fn next_span(&mut self) -> Option<Outgoing> {
        loop {
            let is_long =
                self.short.is_empty() || (self.short_turns >= SHORT_TURNS && !self.long.is_empty());
            self.short_turns = if is_long { 0 } else { self.short_turns + 1 };
            let ring = if is_long {
                &mut self.long
            } else {
                &mut self.short
            };
            let (partition, mut spans) = ring.pop()?;
            if let Some(fetched) = spans.fetched.take() {
                if let Some(append) = spans.append {
                    self.append(partition, append);
                }
                return Some(fetched);
            }
            // What it had may be held by now.
            if let Some(append) = spans.append {
                let (message, entries) = append.into_message();
                return Some(Outgoing {
                    partition,
                    message,
                    entries,
                });
            }
        }
    }

    fn next_word(&mut self) -> Option<Outgoing> {
        let (partition, mut waiting) = self.words.pop()?;
        let message = waiting.pop_front()?;
        if !waiting.is_empty() {
            *self.words.entry(partition) = waiting;
        }
        Some(Outgoing {
            partition,
            message,
            entries: None,
        })
    }
}

/// The span that a message has.
pub(crate) fn span_of(message: &Message) -> Option<&Span> {
    match message {
        Message::Append { span, .. } | Message::Fetched { span, .. } => Some(span),
        Message::Seal { .. }
        | Message::Sealed { .. }
        | Message::Fetch { .. }
        | Message::Parted { .. }
        | Message::Ack(_)
        | Message::Mismatch { .. }
        | Message::Trust { .. } => None,
    }
}

/// Whether there are entries in a span.
pub(crate) fn has_entries(span: &Span) -> bool {
    span.until > span.prev.offset
}

/// Ends a message's span at an offset within it, and gives a message with the rest. Who has asked for
/// entries asks for the rest by itself.
pub(crate) fn split(message: &mut Message, at: Offset) -> Option<Message> {
    match message {
        Message::Append {
            epoch,
            span,
            high_watermark,
            deleted,
            asks,
        } => {
            let rest = append::cut(span, at)?;
            Some(Message::Append {
                epoch: *epoch,
                span: rest,
                high_watermark: *high_watermark,
                deleted: *deleted,
                // Whoever asks wants to know of all of it.
                asks: std::mem::take(asks),
            })
        }
        Message::Fetched { span, .. } => {
            span.cut(at);
            None
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
