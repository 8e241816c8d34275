//! Whose records lie in an output's topics: others may write there as well.

use std::collections::HashSet;

use millstream_protocol::api::plugin::DeploymentDescription;
use millstream_protocol::{DIRECT_WORKER_PRODUCER_ID, FIRST_WORKER_PRODUCER_ID, ProducerId};

/// Who has written a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// The live deployment or its shadow.
    Compared,
    /// A client, or another deployment.
    Other,
    /// Nobody that is known now: outputs that are at-least-once name no producer, and neither a promotion nor a
    /// removal leaves the names of the workers before it.
    Unknown,
}

/// The producers of all workers.
#[derive(Debug, Default)]
pub(super) struct Writers {
    compared: HashSet<ProducerId>,
    others: HashSet<ProducerId>,
}

impl Writers {
    /// Tells the workers of these two from those of all other deployments.
    pub(super) fn of(deployments: &[DeploymentDescription], live: &str, shadow: &str) -> Self {
        let mut writers = Self::default();
        for deployment in deployments {
            let is_compared = [live, shadow].contains(&deployment.spec.name.as_str());
            let of_it = if is_compared {
                &mut writers.compared
            } else {
                &mut writers.others
            };
            of_it.extend(deployment.workers.iter().filter_map(|it| it.producer_id));
        }
        writers
    }

    pub(super) fn who(&self, producer: Option<ProducerId>) -> Writer {
        let Some(producer) = producer else {
            return Writer::Unknown;
        };
        let worker = producer & !DIRECT_WORKER_PRODUCER_ID;
        if producer < FIRST_WORKER_PRODUCER_ID || self.others.contains(&worker) {
            Writer::Other
        } else if self.compared.contains(&worker) {
            Writer::Compared
        } else {
            Writer::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_other_workers_are_others() {
        let worker = |id| FIRST_WORKER_PRODUCER_ID | id;
        let writers = Writers {
            compared: [worker(1), worker(2)].into(),
            others: [worker(3)].into(),
        };
        let direct = |id| worker(id) | DIRECT_WORKER_PRODUCER_ID;
        for (producer, expected) in [
            (Some(1), Writer::Other),
            (Some(worker(1)), Writer::Compared),
            (Some(direct(2)), Writer::Compared),
            (Some(worker(3)), Writer::Other),
            (Some(direct(3)), Writer::Other),
            (Some(worker(4)), Writer::Unknown),
            (None, Writer::Unknown),
        ] {
            assert_eq!(writers.who(producer), expected, "{producer:?}");
        }
    }
}
