//! Who is at the writer's work: its thread, or for a moment whoever brings something.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_offload::Offload;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::turn::Turn;
use super::{Heard, Writer, WriterCommand};
use crate::background::Alarm;
use crate::config::{MAX_WRITER_TURN_BYTES, MAX_WRITER_TURN_COMMANDS};

/// The writer's work, and what is known of it without being at it.
pub(super) struct Desk {
    /// `None` before it begins, once it has ended, and for whoever finds it so behind somebody who has panicked at it.
    turn: Mutex<Option<Turn>>,
    /// Commands that are not done yet. Counted by who sends them, so that nothing overtakes what the same has sent
    /// before.
    waiting: AtomicUsize,
    /// Whether there are tasks that go on while one waits for a short write.
    has_hands: bool,
}

/// What has become of what another replica has said.
pub(super) enum Hearing {
    Done,
    /// It is done, and something is due earlier than the writer's thread wakes.
    DoneAndDue,
    /// It is left to the writer's thread.
    Left(Heard),
}

/// How a turn of the writer's thread has ended.
enum After {
    GoesOn,
    /// Nobody is at the work any more.
    Ended,
    /// It is to stop, and to say so.
    Stops(Box<Turn>, oneshot::Sender<()>),
}

impl Desk {
    pub(super) fn new(offload: Offload) -> Self {
        let has_hands = match offload {
            Offload::InPlace => true,
            Offload::Threads => Handle::current().metrics().num_workers() > 1,
        };
        Self {
            turn: Mutex::default(),
            waiting: AtomicUsize::new(0),
            has_hands,
        }
    }

    pub(super) fn begin(&self, turn: Turn) {
        *self.turn.lock() = Some(turn);
    }

    /// A command is about to be sent.
    pub(super) fn announce(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Does what follows from what another replica has said, if that takes a moment and nothing else is to be done.
    pub(super) fn hear(&self, heard: Heard) -> Hearing {
        if !self.has_hands {
            return Hearing::Left(heard);
        }
        let Some(mut at_work) = self.turn.try_lock() else {
            return Hearing::Left(heard);
        };
        let is_free = self.waiting.load(Ordering::Relaxed) == 0;
        let is_brief = |turn: &mut Turn| is_free && turn.is_brief(&heard);
        // Whoever panics leaves nothing behind for others to go on with.
        let Some(mut turn) = at_work.take_if(is_brief) else {
            return Hearing::Left(heard);
        };
        let _alarm = Alarm::new("the writer", turn.faults());
        turn.hear(heard);
        let hearing = match turn.wakes_in_time() {
            true => Hearing::Done,
            false => Hearing::DoneAndDue,
        };
        *at_work = Some(turn);
        hearing
    }

    /// When the writer's thread is to wake by itself; `Err` if there is nothing left to wake for.
    fn plan(&self) -> Result<Option<Instant>, Ended> {
        let mut at_work = self.turn.lock();
        at_work.as_mut().map(Turn::plan).ok_or(Ended)
    }

    /// A turn of the writer's thread, which begins with a command or because something is due.
    fn take(
        &self,
        first: Option<WriterCommand>,
        queue: &mut UnboundedReceiver<WriterCommand>,
        writer: &Writer,
    ) -> After {
        let mut at_work = self.turn.lock();
        let Some(mut turn) = at_work.take() else {
            return After::Ended;
        };
        let mut next = first;
        let mut taken = 0;
        while let Some(command) = next {
            if let WriterCommand::Stop { done } = command {
                return After::Stops(Box::new(turn), done);
            }
            turn.take(command, writer);
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            taken += 1;
            let goes_on =
                taken < MAX_WRITER_TURN_COMMANDS && turn.staged_bytes() < MAX_WRITER_TURN_BYTES;
            next = if goes_on { queue.try_recv().ok() } else { None };
        }
        turn.write_staged();
        turn.tick();
        *at_work = Some(turn);
        After::GoesOn
    }
}

/// Nobody is at the work any more.
struct Ended;

/// Ends the work with its thread: what is in it has ways to the writer, and would keep itself.
struct Leaving(Arc<Desk>);

impl Drop for Leaving {
    fn drop(&mut self) {
        let turn = self.0.turn.lock().take();
        drop(turn);
    }
}

/// The writer's thread.
pub(super) async fn run(
    writer: Writer,
    mut queue: UnboundedReceiver<WriterCommand>,
    _alarm: Alarm,
) {
    let desk = Arc::clone(&writer.desk);
    let _leaving = Leaving(Arc::clone(&desk));
    while let Ok(deadline) = desk.plan() {
        let first = match deadline {
            None => queue.recv().await,
            Some(deadline) => timeout_at(deadline, queue.recv()).await.unwrap_or(None),
        };
        match desk.take(first, &mut queue, &writer) {
            After::GoesOn => {}
            After::Ended => return,
            After::Stops(mut turn, done) => {
                turn.stop(&mut queue).await;
                // Whoever asked may have given up waiting.
                let _ = done.send(());
                return;
            }
        }
    }
}
