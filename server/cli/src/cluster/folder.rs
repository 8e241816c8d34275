//! The folder of a cluster's operator: its authority, and a folder for each broker.
//!
//! ```text
//! <dir>/authority.pem .key   who issues the certificates of brokers and clients
//! <dir>/client.pem .key      the operator's own
//! <dir>/profile.toml         where the cluster is, for clients
//! <dir>/broker-1/            all that a broker is started with; it can be copied to another machine
//!     millstream.toml        its configuration
//!     broker.pem .key        its certificate and key
//!     authority.pem
//!     ticket.toml            what lets it in, if it is not the first
//!     data/                  made when it starts
//! ```

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use millstream_broker::cluster::ticket::Ticket;
use millstream_protocol::api::DEFAULT_PORT;
use millstream_transport::Profile;
use millstream_transport::address::Address;
use millstream_transport::identity::Authority;
use millstream_transport::principal::Role;
use serde::Serialize;

use crate::errors::{Exit, Problem};
use crate::parse::{parse_advertised, parse_rack};

/// What the authority calls the cluster.
const CLUSTER: &str = "millstream";

/// The client certificate's name.
const OPERATOR: &str = "operator";

/// What every broker's certificate is valid for, so that a client may reach each of them by the same name.
const COMMON_HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// Where a broker is to be.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct PlaceArgs {
    /// The UDP address to listen on [default: 127.0.0.1, and port 9091 and the broker's number: 9092 for the
    /// first]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// Where clients and other brokers reach it, if that is not where it listens
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_advertised)]
    advertise: Option<Address>,

    /// What it shares its fate with: the replicas of a partition are spread over racks
    #[arg(long, value_name = "NAME", value_parser = parse_rack)]
    rack: Option<String>,

    /// A further host name or IP address that its certificate is valid for; may be given several times
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
}

/// The same, for one broker.
#[derive(Clone, Debug)]
pub(super) struct Place {
    listen: SocketAddr,
    pub(super) advertise: Address,
    rack: Option<String>,
    hosts: Vec<String>,
}

impl PlaceArgs {
    /// Refuses what could not be any broker's place.
    pub(super) fn check(&self) -> Result<(), Problem> {
        let Some(listen) = self.listen else {
            return Ok(());
        };
        if listen.port() == 0 {
            return Err(Problem::usage(
                "--listen names port 0, and a broker of a cluster stays where it is",
            )
            .advise("name a port, for example `--listen 127.0.0.1:9092`"));
        }
        if listen.ip().is_unspecified() && self.advertise.is_none() {
            return Err(
                Problem::usage(format!("nobody reaches a broker by the address {listen}")).advise(
                    "say by `--advertise HOST:PORT` where clients and other brokers reach it",
                ),
            );
        }
        Ok(())
    }

    /// The place of the broker of this number.
    pub(super) fn of(self, broker_id: u32) -> Result<Place, Problem> {
        self.check()?;
        let listen = match self.listen {
            Some(listen) => listen,
            None => {
                let port = u32::from(DEFAULT_PORT - 1).saturating_add(broker_id);
                let port = u16::try_from(port).map_err(|_| {
                    Problem::usage(format!("there is no port for broker {broker_id} by itself"))
                        .advise("name one by `--listen ADDRESS`")
                })?;
                (Ipv4Addr::LOCALHOST, port).into()
            }
        };
        let advertise = self.advertise.unwrap_or_else(|| Address {
            host: listen.ip().to_string(),
            port: listen.port(),
        });
        let mut hosts = vec![advertise.host.clone()];
        let further = COMMON_HOSTS.map(str::to_owned).into_iter().chain(self.host);
        for host in further {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(Place {
            listen,
            advertise,
            rack: self.rack,
            hosts,
        })
    }
}

/// The folder of a cluster's operator.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

/// What a broker is started with.
#[derive(Debug, Serialize)]
struct ConfigFile<'a> {
    listen: SocketAddr,
    data_dir: &'a str,
    identity: IdentitySection<'a>,
    cluster: ClusterSection<'a>,
}

#[derive(Debug, Serialize)]
struct IdentitySection<'a> {
    certificate: &'a str,
    key: &'a str,
    ca: &'a str,
}

#[derive(Debug, Serialize)]
struct ClusterSection<'a> {
    advertise: String,
    rack: Option<&'a str>,
    ticket: Option<&'a str>,
}

const DATA_DIR: &str = "data";
const TICKET: &str = "ticket.toml";

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the cluster is, for clients.
    pub(super) fn profile(&self) -> PathBuf {
        self.root.join("profile.toml")
    }

    /// The private key of the authority.
    pub(super) fn authority_key(&self) -> PathBuf {
        self.root.join("authority.key")
    }

    fn authority_certificate(&self) -> PathBuf {
        self.root.join("authority.pem")
    }

    /// Where all is that a broker is started with.
    pub(super) fn broker(&self, broker_id: u32) -> PathBuf {
        self.root.join(format!("broker-{broker_id}"))
    }

    /// A broker's configuration file.
    pub(super) fn config(&self, broker_id: u32) -> PathBuf {
        self.broker(broker_id).join("millstream.toml")
    }

    /// Makes the folder, which must not hold anything yet, and an authority in it.
    pub(super) fn begin(&self) -> anyhow::Result<Authority> {
        let root = self.root.display();
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {root}")),
        };
        if entries.is_some_and(|mut it| it.next().is_some()) {
            return Err(Problem::new(Exit::Refused, format!("{root} is not empty"))
                .advise(
                    "name a folder that is empty, or not there yet; `millstream cluster join` makes a \
                     further broker for a cluster that is there",
                )
                .into());
        }
        crate::dev::make_private_dir(&self.root)?;
        let authority = Authority::create(CLUSTER)?;
        authority.save(&self.authority_certificate(), &self.authority_key())?;
        Ok(authority)
    }

    /// The authority, as it was made with the folder.
    pub(super) fn authority(&self) -> anyhow::Result<Authority> {
        let loaded = Authority::load(&self.authority_certificate(), &self.authority_key());
        loaded.map_err(|error| {
            let message = format!("{} holds no cluster's authority", self.root.display());
            anyhow::Error::from(error).context(Problem::new(Exit::NotFound, message).advise(
                "name the folder that `millstream cluster init` has made, where it has made it",
            ))
        })
    }

    /// Writes the operator's own certificate, and the profile with which clients find the cluster at this
    /// address.
    pub(super) fn write_client(
        &self,
        authority: &Authority,
        address: &Address,
    ) -> anyhow::Result<()> {
        let (certificate, key) = (self.root.join("client.pem"), self.root.join("client.key"));
        let ca = self.authority_certificate();
        let issued = authority.issue(Role::Client, OPERATOR, &[])?;
        issued.save(&certificate, &key, &ca)?;
        let profile = Profile {
            addresses: vec![address.to_string()],
            server_name: COMMON_HOSTS[0].to_owned(),
            ca,
            certificate,
            key,
        };
        profile.save(&self.profile())?;
        Ok(())
    }

    /// Has clients look for the cluster at one more address.
    pub(super) fn add_address(&self, address: &Address) -> anyhow::Result<()> {
        let mut profile = Profile::load(&self.profile())?;
        let address = address.to_string();
        if !profile.addresses.contains(&address) {
            profile.addresses.push(address);
            profile.save(&self.profile())?;
        }
        Ok(())
    }

    /// Writes all that a broker is started with: its identity, its configuration, and its ticket, if it is
    /// not the first. What is there of a broker that was never started gives way.
    pub(super) fn write_broker(
        &self,
        authority: &Authority,
        broker_id: u32,
        place: &Place,
        ticket: Option<&Ticket>,
    ) -> anyhow::Result<()> {
        let folder = self.broker(broker_id);
        if folder.join(DATA_DIR).exists() {
            let message = format!("{} holds the data of a broker", folder.display());
            return Err(Problem::new(Exit::Refused, message)
                .advise("move it away: the broker of this number is a new one")
                .into());
        }
        crate::dev::make_private_dir(&folder)?;
        let hosts: Vec<&str> = place.hosts.iter().map(String::as_str).collect();
        let name = format!("broker-{broker_id}");
        let issued = authority
            .issue(Role::Broker, &name, &hosts)
            .map_err(|error| Problem::usage(error.to_string()))?;
        issued.save(
            &folder.join("broker.pem"),
            &folder.join("broker.key"),
            &folder.join("authority.pem"),
        )?;
        if let Some(ticket) = ticket {
            let text = toml::to_string(ticket).context("cannot write a ticket")?;
            write_private(&folder.join(TICKET), &text)?;
        }
        let config = ConfigFile {
            listen: place.listen,
            data_dir: DATA_DIR,
            identity: IdentitySection {
                certificate: "broker.pem",
                key: "broker.key",
                ca: "authority.pem",
            },
            cluster: ClusterSection {
                advertise: place.advertise.to_string(),
                rack: place.rack.as_deref(),
                ticket: ticket.map(|_| TICKET),
            },
        };
        let config = toml::to_string(&config).context("cannot write a configuration")?;
        let text = format!(
            "# Broker {broker_id} of a cluster. `millstream server --print-default-config` shows every \
             setting.\n{config}"
        );
        let path = self.config(broker_id);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Writes a file that nobody else may read, whole or not at all.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use millstream_transport::Identity;
    use uuid::Uuid;

    use super::*;

    fn ticket(broker_id: u32) -> Ticket {
        Ticket {
            cluster_id: Uuid::from_u128(1),
            broker_id,
            token: "secret".to_owned(),
            brokers: BTreeMap::from([("1".to_owned(), "127.0.0.1:9092".to_owned())]),
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_folder_holds_what_brokers_and_clients_need_and_keeps_its_secrets() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::new(parent.path().join("cluster"));
        let authority = folder.begin().unwrap();
        let place = PlaceArgs::default().of(1).unwrap();
        folder.write_broker(&authority, 1, &place, None).unwrap();
        folder.write_client(&authority, &place.advertise).unwrap();
        let place = PlaceArgs {
            rack: Some("a \"quoted\" rack".to_owned()),
            host: vec!["two.example".to_owned()],
            ..PlaceArgs::default()
        };
        let place = place.of(2).unwrap();
        let authority = folder.authority().unwrap();
        folder
            .write_broker(&authority, 2, &place, Some(&ticket(2)))
            .unwrap();
        let two = folder.broker(2);
        let identity = Identity::load(
            &two.join("broker.pem"),
            &two.join("broker.key"),
            &two.join("authority.pem"),
        );
        let principal = identity.unwrap().principal().to_string();
        assert_eq!(principal, "millstream://broker/broker-2");
        let profile = Profile::load(&folder.profile()).unwrap();
        profile.identity().unwrap();
        assert_eq!(profile.addresses, ["127.0.0.1:9092"]);
        folder.add_address(&place.advertise).unwrap();
        folder.add_address(&place.advertise).unwrap();
        let profile = Profile::load(&folder.profile()).unwrap();
        assert_eq!(profile.addresses, ["127.0.0.1:9092", "127.0.0.1:9093"]);
        insta::assert_snapshot!(fs::read_to_string(folder.config(2)).unwrap(), @r#"
        # Broker 2 of a cluster. `millstream server --print-default-config` shows every setting.
        listen = "127.0.0.1:9093"
        data_dir = "data"

        [identity]
        certificate = "broker.pem"
        key = "broker.key"
        ca = "authority.pem"

        [cluster]
        advertise = "127.0.0.1:9093"
        rack = 'a "quoted" rack'
        ticket = "ticket.toml"
        "#);
        for secret in [
            folder.authority_key(),
            folder.root().join("client.key"),
            two.join("broker.key"),
            two.join("ticket.toml"),
        ] {
            assert_eq!(mode(&secret), 0o600, "{}", secret.display());
        }
        assert_eq!(mode(folder.root()), 0o700);
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::new(parent.path().join("cluster"));
        let authority = folder.begin().unwrap();
        let text = |error: anyhow::Error| {
            format!("{error:#}").replace(&*parent.path().to_string_lossy(), "/home/a")
        };
        insta::assert_snapshot!(text(folder.begin().unwrap_err()), @"/home/a/cluster is not empty");
        let place = PlaceArgs::default().of(2).unwrap();
        let write = || folder.write_broker(&authority, 2, &place, Some(&ticket(2)));
        write().unwrap();
        // It was never started: another ticket takes the place of the first.
        write().unwrap();
        fs::create_dir(folder.broker(2).join("data")).unwrap();
        insta::assert_snapshot!(text(write().unwrap_err()), @"/home/a/cluster/broker-2 holds the data of a broker");
        let elsewhere = Folder::new(parent.path().join("elsewhere"));
        let error = elsewhere.authority().unwrap_err();
        assert!(text(error).starts_with("/home/a/elsewhere holds no cluster's authority"));
    }

    #[test]
    fn places_that_nobody_could_reach_are_refused() {
        let listening = |listen: &str| PlaceArgs {
            listen: Some(listen.parse().unwrap()),
            ..PlaceArgs::default()
        };
        for listen in ["127.0.0.1:0", "0.0.0.0:9092", "[::]:9092"] {
            assert!(listening(listen).of(1).is_err(), "{listen}");
        }
        let place = listening("[::1]:77").of(1).unwrap();
        assert_eq!(place.advertise.to_string(), "[::1]:77");
        assert_eq!(place.hosts, ["::1", "localhost", "127.0.0.1"]);
        let advertised = PlaceArgs {
            advertise: Some("one.example:9092".parse().unwrap()),
            ..listening("0.0.0.0:9092")
        };
        let place = advertised.of(1).unwrap();
        assert_eq!(place.hosts, ["one.example", "localhost", "127.0.0.1"]);
        assert_eq!(PlaceArgs::default().of(3).unwrap().listen.port(), 9094);
        assert!(PlaceArgs::default().of(60_000).is_err());
    }
}
