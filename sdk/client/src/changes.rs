//! News of what the way to a partition's leader depends on.

use tokio::sync::watch;

/// Told whenever a leader, an address or a connection is another than before: whoever has a stream
/// then looks whether there is a better way for it.
#[derive(Debug, Default)]
pub(crate) struct Changes(watch::Sender<()>);

impl Changes {
    pub(crate) fn note(&self) {
        self.0.send_replace(());
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}
