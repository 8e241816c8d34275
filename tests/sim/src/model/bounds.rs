//! How much of everything a check goes through.

use millstream_replication::{BrokerId, Durability};

/// The bounds of a check, and what it checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Brokers, numbered from 1.
    pub brokers: u32,
    /// The first so many of them are the partition's replicas in the beginning.
    pub replicas: u32,
    /// Leader epochs.
    pub epochs: u32,
    /// Records that are produced.
    pub records: u8,
    /// Processes that crash.
    pub crashes: u8,
    /// Machines that lose their power.
    pub power_losses: u8,
    /// Directories that are emptied.
    pub wipes: u8,
    /// Changes of the replica set that are begun.
    pub changes: u8,
    /// Writes of which only the beginning succeeds, while the process goes on.
    pub short_writes: u8,
    /// Links that break and are there again.
    pub links: u8,
    /// Logs whose beginning goes by retention.
    pub retentions: u8,
    /// When an entry counts.
    pub durability: Durability,
    /// Who leads in the second epoch, in the third, and so on; after them anybody.
    pub leaders: Vec<BrokerId>,
    /// Begins with a leader whose first entry, which is no record that counts, is everywhere, instead
    /// of with an appointment.
    pub warm: bool,
    /// A span may arrive, and a log be flushed, as its beginning only.
    pub cuts: bool,
    /// Mistake that is planted in the core.
    #[cfg(planted)]
    pub mistake: Option<millstream_replication::planted::Mistake>,
}

impl Default for Bounds {
    /// Two replicas, two epochs, a record, and nothing that goes wrong but the network.
    fn default() -> Self {
        Self {
            brokers: 2,
            replicas: 2,
            epochs: 2,
            records: 1,
            crashes: 0,
            power_losses: 0,
            wipes: 0,
            changes: 0,
            short_writes: 0,
            links: 0,
            retentions: 0,
            durability: Durability::Sync,
            leaders: Vec::new(),
            warm: false,
            cuts: false,
            #[cfg(planted)]
            mistake: None,
        }
    }
}

impl Bounds {
    /// All brokers.
    pub(crate) fn all(&self) -> impl Iterator<Item = BrokerId> + use<> {
        1..=self.brokers
    }

    /// The replica sets that a partition may have: all.
    pub(crate) fn sets(&self) -> impl Iterator<Item = Vec<BrokerId>> + use<> {
        let brokers = self.brokers;
        (1..1u32 << brokers).map(move |mask| {
            let chosen = (1..=brokers).filter(|it| mask >> (it - 1) & 1 == 1);
            chosen.collect()
        })
    }
}
