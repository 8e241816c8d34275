//! The brokers of the cluster, as far as the client knows them: those that the user has named, and
//! those that a broker has told of.

use std::collections::{BTreeMap, HashMap};

use millstream_protocol::api::cluster::BrokerAddress;
use millstream_protocol::api::hello::HelloResponse;
use millstream_protocol::limits::{BROKERS_PER_LISTING, MAX_BROKER_ADDRESS_BYTES};
use millstream_transport::ConnectError;
use millstream_transport::address::{Address, AddressError};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::{Error, Result};

/// A broker's number.
pub(crate) type BrokerId = u32;

/// Where a broker is, and who it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: String,
    /// What its certificate must be issued for.
    pub(crate) server_name: String,
    /// The cluster and the broker that must answer there. `None` for an address of the user's: whoever
    /// answers there is right.
    expected: Option<(Uuid, BrokerId)>,
}

impl Target {
    /// Whether this is an answer of the broker that is meant.
    pub(crate) fn is(&self, hello: &HelloResponse) -> bool {
        let found = (hello.cluster_id, hello.broker_id);
        self.expected.is_none_or(|expected| expected == found)
    }
}

/// The brokers that are known.
///
/// Of the names for which their certificates must be issued: a server name that the user gives holds
/// for all brokers, unless it is the host of the first address that he gives. Then it is the name of
/// that broker alone, and every other broker's certificate must be for the host of its own address.
#[derive(Debug)]
pub(crate) struct Brokers {
    given: Vec<Target>,
    /// The name that all brokers' certificates are issued for, if there is one.
    common_name: Option<String>,
    told: Mutex<BTreeMap<BrokerId, Told>>,
    /// Who has answered at the addresses that the user has given.
    met: Mutex<HashMap<String, BrokerId>>,
}

/// What a broker has told of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    target: Target,
    /// Whether it is there.
    is_live: bool,
}

impl Brokers {
    /// Those at the addresses that the user has given.
    pub(crate) fn given(addresses: Vec<String>, server_name: Option<String>) -> Result<Self> {
        if addresses.is_empty() {
            return Err(Error::invalid("no broker address is given"));
        }
        if addresses.len() > BROKERS_PER_LISTING {
            return Err(Error::invalid(format!(
                "{} broker addresses are given, more than {BROKERS_PER_LISTING}",
                addresses.len()
            )));
        }
        let hosts = addresses.iter().map(|address| host(address));
        let hosts: Vec<String> = hosts
            .collect::<Result<_, _>>()
            .map_err(ConnectError::from)?;
        let common_name = server_name.filter(|name| !name.eq_ignore_ascii_case(&hosts[0]));
        let given = addresses
            .into_iter()
            .zip(hosts)
            .map(|(address, host)| Target {
                address,
                server_name: common_name.clone().unwrap_or(host),
                expected: None,
            });
        Ok(Self {
            given: given.collect(),
            common_name,
            told: Mutex::default(),
            met: Mutex::default(),
        })
    }

    /// Takes a broker's list in place of the one before. True when it says something else.
    pub(crate) fn learn(&self, cluster_id: Uuid, listed: Vec<BrokerAddress>) -> bool {
        let mut told = BTreeMap::new();
        for listed in listed.into_iter().take(BROKERS_PER_LISTING) {
            let BrokerAddress {
                broker_id,
                address,
                is_live,
            } = listed;
            let Ok(host) = host(&address) else {
                tracing::debug!(broker_id, %address, "a broker whose address cannot be read");
                continue;
            };
            let target = Target {
                address,
                server_name: self.common_name.clone().unwrap_or(host),
                expected: Some((cluster_id, broker_id)),
            };
            told.insert(broker_id, Told { target, is_live });
        }
        let mut known = self.told.lock();
        let is_news = *known != told;
        *known = told;
        is_news
    }

    /// Takes note of who answers at an address.
    pub(crate) fn meet(&self, target: &Target, broker_id: BrokerId) {
        if self.given.iter().any(|it| it.address == target.address) {
            let mut met = self.met.lock();
            met.insert(target.address.clone(), broker_id);
        }
    }

    /// All of them: the user's first, in their order, and then the others, beginning with the one at
    /// `turn`; and those last that are said to be gone.
    pub(crate) fn all(&self, turn: usize) -> Vec<Target> {
        let told = self.told.lock();
        let is_given = |told: &&Target| self.given.iter().any(|it| it.address == told.address);
        let others = told.values().map(|it| &it.target);
        let mut others: Vec<Target> = others.filter(|it| !is_given(it)).cloned().collect();
        let turn = turn.checked_rem(others.len()).unwrap_or_default();
        others.rotate_left(turn);
        let met = self.met.lock();
        let is_gone = |target: &Target| {
            let broker_id = target.expected.map(|(_, broker_id)| broker_id);
            let broker_id = broker_id.or_else(|| met.get(&target.address).copied());
            let told = broker_id.and_then(|broker_id| told.get(&broker_id));
            told.is_some_and(|it| !it.is_live)
        };
        let mut all: Vec<Target> = self.given.iter().cloned().chain(others).collect();
        all.sort_by_key(is_gone);
        all
    }

    /// The broker of this number.
    pub(crate) fn get(&self, broker_id: BrokerId) -> Option<Target> {
        let told = self.told.lock();
        told.get(&broker_id).map(|it| it.target.clone())
    }

    /// Whether this broker was said to be gone when brokers were listed last.
    pub(crate) fn is_gone(&self, broker_id: BrokerId) -> bool {
        let told = self.told.lock();
        told.get(&broker_id).is_some_and(|it| !it.is_live)
    }

    /// All but this one: those first that were said to be there.
    pub(crate) fn others(&self, than: BrokerId) -> Vec<BrokerId> {
        let told = self.told.lock();
        let others = told.iter().filter(|(broker_id, _)| **broker_id != than);
        let mut others: Vec<_> = others.collect();
        others.sort_by_key(|(_, it)| !it.is_live);
        others
            .into_iter()
            .map(|(broker_id, _)| *broker_id)
            .collect()
    }

    /// Whether there are several.
    pub(crate) fn are_several(&self) -> bool {
        self.told.lock().len() > 1
    }
}

fn host(address: &str) -> Result<String, AddressError> {
    if address.len() > MAX_BROKER_ADDRESS_BYTES {
        return Err(AddressError {
            text: format!("{:.32}…", address),
        });
    }
    Ok(address.parse::<Address>()?.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(brokers: &[(BrokerId, &str)]) -> Vec<BrokerAddress> {
        let address = |(broker_id, address): &(BrokerId, &str)| BrokerAddress {
            broker_id: *broker_id,
            address: (*address).to_owned(),
            is_live: true,
        };
        brokers.iter().map(address).collect()
    }

    /// All brokers, as address and server name, with these addresses and this name given, and two told.
    fn names(given: &[&str], server_name: Option<&str>) -> Vec<(String, String)> {
        let given = given.iter().map(|it| (*it).to_owned()).collect();
        let brokers = Brokers::given(given, server_name.map(str::to_owned)).unwrap();
        brokers.learn(Uuid::nil(), told(&[(1, "one:1"), (2, "two:1")]));
        let all = brokers.all(0).into_iter();
        all.map(|it| (it.address, it.server_name)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(address, name): &(&str, &str)| ((*address).to_owned(), (*name).to_owned());
        expected.iter().map(pair).collect()
    }

    #[test]
    fn a_server_name_is_one_brokers_or_all_brokers() {
        let own = pairs(&[("one:1", "one"), ("two:1", "two")]);
        assert_eq!(names(&["one:1"], None), own);
        assert_eq!(names(&["one:1"], Some("ONE")), own);
        assert_eq!(names(&["one:1", "two:1"], Some("one")), own);
        let common = pairs(&[("one:1", "all"), ("two:1", "all")]);
        assert_eq!(names(&["one:1"], Some("all")), common);
        assert_eq!(names(&["one:1", "two:1"], Some("all")), common);
        assert_eq!(
            names(&["[::1]:1"], Some("localhost")),
            pairs(&[
                ("[::1]:1", "localhost"),
                ("one:1", "localhost"),
                ("two:1", "localhost")
            ])
        );
    }

    #[test]
    fn the_users_come_first_and_a_new_list_replaces_the_old() {
        let brokers = Brokers::given(vec!["b:1".into(), "x:1".into()], None).unwrap();
        let addresses = |turn| {
            let all = brokers.all(turn).into_iter();
            all.map(|it| it.address).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(addresses(7), "b:1 x:1");
        assert!(!brokers.are_several());
        let three = told(&[(1, "a:1"), (2, "b:1"), (3, "c:1")]);
        assert!(brokers.learn(Uuid::nil(), three.clone()));
        assert!(!brokers.learn(Uuid::nil(), three), "it says the same");
        assert_eq!(addresses(0), "b:1 x:1 a:1 c:1");
        assert_eq!(addresses(3), "b:1 x:1 c:1 a:1");
        assert!(brokers.are_several());
        let moved = told(&[(1, "d:1"), (4, "not an address")]);
        assert!(brokers.learn(Uuid::nil(), moved));
        assert_eq!(addresses(0), "b:1 x:1 d:1");
        assert_eq!(brokers.get(1).map(|it| it.address), Some("d:1".to_owned()));
        assert_eq!(brokers.get(4), None);
    }

    #[test]
    fn who_is_said_to_be_gone_comes_last() {
        let brokers = Brokers::given(vec!["localhost:1".into()], None).unwrap();
        let addresses = || {
            let all = brokers.all(0).into_iter();
            all.map(|it| it.address).collect::<Vec<_>>().join(" ")
        };
        let mut three = told(&[(1, "a:1"), (2, "b:1"), (3, "c:1")]);
        three[0].is_live = false;
        assert!(brokers.learn(Uuid::nil(), three.clone()));
        assert_eq!(addresses(), "localhost:1 b:1 c:1 a:1");
        // The user has another name for it.
        brokers.meet(&brokers.all(0)[0], 1);
        assert_eq!(addresses(), "b:1 c:1 localhost:1 a:1");
        assert!(brokers.is_gone(1) && !brokers.is_gone(2) && !brokers.is_gone(4));
        assert_eq!(brokers.others(2), [3, 1]);
        three[0].is_live = true;
        assert!(brokers.learn(Uuid::nil(), three));
        assert_eq!(addresses(), "localhost:1 a:1 b:1 c:1");
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for given in [vec![], vec!["a b".to_owned()], vec!["x".repeat(300)]] {
            assert!(Brokers::given(given, None).is_err());
        }
        let many = vec!["a:1".to_owned(); BROKERS_PER_LISTING + 1];
        assert!(Brokers::given(many, None).is_err());
    }
}
