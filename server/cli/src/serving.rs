//! A broker in this process, from its start to its end.

use millstream_broker::{Broker, BrokerConfig};

use crate::interrupt::Interrupts;
use crate::output::Output;

/// Starts a broker, unless a signal comes first.
pub(crate) async fn start(
    config: BrokerConfig,
    interrupts: &mut Interrupts,
) -> anyhow::Result<Broker> {
    interrupts
        .unless(async { Ok(Broker::start(config).await?) })
        .await
}

/// Serves until the first signal, until `enough`, or until the broker must stop by itself; then
/// finishes what is under way. A second signal ends it at once.
pub(crate) async fn serve(
    mut broker: Broker,
    interrupts: &mut Interrupts,
    enough: impl Future<Output = ()>,
    output: Output,
) -> anyhow::Result<()> {
    tokio::select! {
        error = broker.failed() => return Err(error.into()),
        _ = interrupts.next() => {}
        () = enough => {}
    }
    output.say("stopping: what is under way is being finished; Ctrl-C ends at once");
    tokio::select! {
        stopped = broker.stop() => Ok(stopped?),
        interrupted = interrupts.next() => Err(interrupted.into()),
    }
}
