//! The thread that makes group commits durable, so that the writer never waits for a disk.

use std::sync::mpsc;
use std::thread;

use millstream_log::FlushTicket;
use millstream_protocol::TopicPartition;

use crate::writer::{Writer, WriterCommand};

/// One partition's unflushed files.
pub(crate) struct FlushJob {
    pub(crate) partition: TopicPartition,
    pub(crate) ticket: FlushTicket,
}

/// Starts the flusher. It ends when the sender is dropped.
pub(crate) fn start(writer: Writer) -> std::io::Result<mpsc::Sender<FlushJob>> {
    let (jobs, queue) = mpsc::channel::<FlushJob>();
    thread::Builder::new()
        .name("flusher".to_owned())
        .spawn(move || {
            for FlushJob { partition, ticket } in queue {
                let outcome = ticket.run();
                if writer
                    .send(WriterCommand::Flushed { partition, outcome })
                    .is_err()
                {
                    break;
                }
            }
        })?;
    Ok(jobs)
}
