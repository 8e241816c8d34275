//! What befalls a broker.

use millstream_protocol::Offset;
use millstream_replication::{BrokerId, DirectoryId, Durability, Durable, Input, Position};

use super::bounds::Bounds;
use super::rules::Violation;
use super::shell::{Arrived, Shell};
use super::state::{Log, State};

type Outcome = Result<(), Violation>;

/// The process ends and is there again: what it had not persisted is forgotten, the page cache is
/// not.
pub(crate) fn crash(state: &mut State, bounds: &Bounds, broker: BrokerId) -> Outcome {
    state.spent.crashes += 1;
    reopen(Shell::new(state, broker), bounds)
}

/// The process ends when it has done so many entries of a write. `None` if there is no such write.
pub(crate) fn crash_writing(
    state: &mut State,
    bounds: &Bounds,
    broker: BrokerId,
    (input, arrived): (Input, Arrived<'_>),
    written: usize,
) -> Result<Option<()>, Violation> {
    state.spent.crashes += 1;
    let mut shell = Shell::new(state, broker);
    (shell.room, shell.ends) = (written, true);
    shell.step(input, arrived)?;
    if !shell.is_short {
        return Ok(None);
    }
    (shell.room, shell.ends) = (usize::MAX, false);
    reopen(shell, bounds).map(Some)
}

/// A write ends after so many entries, and the process goes on. `None` if there is no such write.
pub(crate) fn write_short(
    state: &mut State,
    bounds: &Bounds,
    broker: BrokerId,
    (input, arrived): (Input, Arrived<'_>),
    written: usize,
) -> Result<Option<()>, Violation> {
    state.spent.short_writes += 1;
    let mut shell = Shell::new(state, broker);
    shell.room = written;
    shell.step(input, arrived)?;
    if !shell.is_short {
        return Ok(None);
    }
    shell.room = usize::MAX;
    shell.finish(bounds).map(Some)
}

fn reopen(mut shell: Shell<'_>, bounds: &Bounds) -> Outcome {
    let durable = shell.node.core.durable();
    let log = shell.node.log.clone();
    let flushed = shell.node.core.log().flushed().min(log.end());
    shell.open(durable, log, flushed)?;
    shell.finish(bounds)
}

/// The machine goes dark: of what was not flushed, some is there afterwards. A relaxed replica does
/// not know what it has lost, and is registered anew.
pub(crate) fn lose_power(
    state: &mut State,
    bounds: &Bounds,
    broker: BrokerId,
    kept: Offset,
) -> Outcome {
    state.spent.power_losses += 1;
    let node = state.node(broker);
    let mut log = node.log.clone();
    let durable = match bounds.durability {
        Durability::Sync => node.core.durable(),
        Durability::Relaxed => register(state, broker, log.end()),
    };
    log.cut(kept);
    let mut shell = Shell::new(state, broker);
    shell.open(durable, log, kept)?;
    shell.finish(bounds)
}

/// The directory is emptied, and registered anew.
pub(crate) fn wipe(state: &mut State, bounds: &Bounds, broker: BrokerId) -> Outcome {
    state.spent.wipes += 1;
    let held = match bounds.durability {
        Durability::Sync => state.node(broker).core.log().flushed(),
        Durability::Relaxed => state.node(broker).log.end(),
    };
    let durable = register(state, broker, held);
    let mut shell = Shell::new(state, broker);
    shell.open(durable, Log::default(), 0)?;
    shell.finish(bounds)
}

/// A broker becomes one of the replicas: it begins with nothing, in a directory of its own. What it
/// has from when it was one before is deleted.
pub(crate) fn join(
    state: &mut State,
    bounds: &Bounds,
    broker: BrokerId,
    directory: DirectoryId,
) -> Outcome {
    let durable = Durable::assigned(directory, state.metadata.epoch());
    lose(state, broker, state.node(broker).log.end());
    let mut shell = Shell::new(state, broker);
    shell.open(durable, Log::default(), 0)?;
    shell.finish(bounds)
}

/// Gives the directory another identity; what it held below `held` is not counted on any more.
fn register(state: &mut State, broker: BrokerId, held: Offset) -> Durable {
    lose(state, broker, held);
    let mut directory = DirectoryId::default();
    state.metadata.update(|metadata| {
        directory = metadata.identify();
        metadata.decide(|it| {
            if let Some(known) = it.directories.get_mut(&broker) {
                *known = directory;
            }
        });
    });
    Durable::registered(directory, state.metadata.epoch())
}

/// What a broker held below `held` is gone.
fn lose(state: &mut State, broker: BrokerId, held: Offset) {
    let epoch = state.metadata.epoch();
    let log = &state.node(broker).log;
    let begins = log.start.offset;
    // What outlived its retention was committed.
    let mut entries = state.ghost.committed.clone();
    entries.truncate(begins as usize);
    entries.extend(log.slice(begins, held));
    state.ghost.update(|it| it.lose(broker, epoch, entries));
}

/// What is committed outlives its retention.
pub(crate) fn retain(state: &mut State, bounds: &Bounds, broker: BrokerId) -> Outcome {
    state.spent.retentions += 1;
    let mut shell = Shell::new(state, broker);
    let start = shell.node.core.high_watermark();
    let log = &mut shell.node.log;
    let entries = log.slice(start, log.end());
    log.start = Position {
        epoch: log.epoch_before(start),
        offset: start,
    };
    log.entries = entries;
    shell.tell(bounds, Input::Retained { start }, None)
}
