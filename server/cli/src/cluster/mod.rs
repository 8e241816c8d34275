//! `millstream cluster`: from one broker to several, how they stand, and what becomes of them.

mod folder;
mod recover;
mod status;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use millstream::cluster::{Draining, IssueTicket, Rebalancing};
use millstream_broker::cluster::ticket::Ticket;
use millstream_protocol::TimestampMs;
use serde::Serialize;
use tokio::time::sleep;

use crate::cli::Context;
use crate::output::{Facts, View, counted, time_ms};
use crate::parse::parse_duration;
use folder::{Folder, PlaceArgs};
use recover::RecoverArgs;
use status::ClusterView;

/// How often it is looked whether a step of a rebalancing is done.
const REBALANCING_CHECK: Duration = Duration::from_millis(500);

#[derive(Subcommand, Debug)]
pub(crate) enum ClusterCommand {
    /// Makes a folder with all that a cluster's first broker and its clients need
    Init(InitArgs),
    /// Makes all that a further broker needs, with a ticket that lets it into the running cluster, once
    Join(JoinArgs),
    /// Shows how the cluster stands: what is wrong first, then its brokers and partitions
    Status,
    /// Has a broker emptied: what it leads and keeps goes to others
    Drain(DrainArgs),
    /// Removes a broker that keeps nothing any more
    Remove(RemoveArgs),
    /// Spreads partitions and leaderships evenly over the brokers, gives partitions that have lost replicas for good
    /// further ones, and waits until that is done
    Rebalance,
    /// Has a partition go on without what is lost for good
    Recover(RecoverArgs),
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// The folder: empty, or not there yet
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args, Debug)]
pub(crate) struct JoinArgs {
    /// The folder that `millstream cluster init` has made
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// How long the ticket is good for, a week at most
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    valid: Duration,

    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Args, Debug)]
pub(crate) struct DrainArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker_id: u32,

    /// Has it stay after all: it takes replicas and leaderships again
    #[arg(long)]
    undo: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// The broker's number
    #[arg(value_name = "BROKER")]
    broker_id: u32,
}

/// Runs one of them.
pub(crate) async fn run(command: ClusterCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Init(args) => init(args, context),
        ClusterCommand::Join(args) => join(args, context).await,
        ClusterCommand::Status => {
            let cluster = context.admin().await?.describe_cluster().await?;
            context.output.print(&ClusterView::of(&cluster))
        }
        ClusterCommand::Drain(args) => drain(args, context).await,
        ClusterCommand::Remove(RemoveArgs { broker_id }) => {
            context.admin().await?.remove_broker(broker_id).await?;
            context.output.print(&Removed { removed: broker_id })
        }
        ClusterCommand::Rebalance => rebalance(context).await,
        ClusterCommand::Recover(args) => recover::run(args, context).await,
    }
}

fn init(args: InitArgs, context: &Context) -> anyhow::Result<()> {
    let broker_id = 1;
    let place = args.place.of(broker_id)?;
    let folder = Folder::new(args.dir);
    let authority = folder.begin()?;
    folder.write_client(&authority, &place.advertise)?;
    folder.write_broker(&authority, broker_id, &place, None)?;
    context.output.print(&Begun {
        directory: folder.root().to_owned(),
        broker_id,
        address: place.advertise.to_string(),
        config: folder.config(broker_id),
        profile: folder.profile(),
        authority_key: folder.authority_key(),
    })
}

async fn join(args: JoinArgs, context: &Context) -> anyhow::Result<()> {
    args.place.check()?;
    let folder = Folder::new(args.dir);
    let authority = folder.authority()?;
    let valid_ms = u64::try_from(args.valid.as_millis()).unwrap_or(u64::MAX);
    let client = context.client_of(&folder.profile()).await?;
    let issued = client
        .admin()
        .issue_ticket(IssueTicket { valid_ms })
        .await?;
    let (broker_id, expires_at_ms) = (issued.broker_id, issued.expires_at_ms);
    let ticket = Ticket::from(issued);
    let place = args.place.of(broker_id)?;
    folder.write_broker(&authority, broker_id, &place, Some(&ticket))?;
    folder.add_address(&place.advertise)?;
    context.output.print(&Invited {
        cluster_id: ticket.cluster_id.to_string(),
        broker_id,
        address: place.advertise.to_string(),
        directory: folder.broker(broker_id),
        config: folder.config(broker_id),
        expires_at: time_ms(expires_at_ms),
        expires_at_ms,
    })
}

async fn drain(args: DrainArgs, context: &Context) -> anyhow::Result<()> {
    let DrainArgs { broker_id, undo } = args;
    let admin = context.admin().await?;
    if undo {
        admin.undrain_broker(broker_id).await?;
        return context.output.print(&Stays { stays: broker_id });
    }
    let Draining { keeps, stuck } = admin.drain_broker(broker_id).await?;
    context.output.print(&Drains {
        draining: broker_id,
        keeps,
        stuck,
    })
}

/// Asks for one step after the other, until there is none.
async fn rebalance(context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    let progress = context.output.progress().endless();
    let (mut leaders, mut moves) = (0, 0);
    loop {
        let step = admin.rebalance_cluster().await?;
        let Rebalancing {
            under_way, ahead, ..
        } = step;
        leaders += step.leaders;
        moves += step.moves;
        if step.leaders + step.moves + under_way + ahead == 0 {
            break;
        }
        progress.message(|| {
            let under_way = counted(under_way.into(), "partition");
            format!("{under_way} under way, {ahead} ahead; Ctrl-C leaves the rest as it is")
        });
        sleep(REBALANCING_CHECK).await;
    }
    progress.clear();
    context.output.print(&Rebalanced { moves, leaders })
}

/// A cluster that can be started.
#[derive(Debug, Serialize)]
struct Begun {
    directory: PathBuf,
    broker_id: u32,
    address: String,
    config: PathBuf,
    profile: PathBuf,
    authority_key: PathBuf,
}

impl View for Begun {
    fn text(&self) -> String {
        let (config, profile) = (self.config.display(), self.profile.display());
        let next = Facts::default()
            .fact("start it", format!("millstream server --config {config}"))
            .fact(
                "look at it",
                format!("millstream --profile {profile} cluster status"),
            )
            .fact(
                "one more",
                format!("millstream cluster join --dir {}", self.directory.display()),
            );
        format!(
            "a cluster in {}, of broker {} at {}\n\n{}\nwhoever has {} can make brokers and clients of the \
             cluster: keep it to yourself\n",
            self.directory.display(),
            self.broker_id,
            self.address,
            next.text(),
            self.authority_key.display(),
        )
    }
}

/// A broker that may join.
#[derive(Debug, Serialize)]
struct Invited {
    cluster_id: String,
    broker_id: u32,
    address: String,
    directory: PathBuf,
    config: PathBuf,
    /// From when on its ticket lets nobody in: RFC 3339, UTC.
    expires_at: String,
    expires_at_ms: TimestampMs,
}

impl View for Invited {
    fn text(&self) -> String {
        let next = Facts::default()
            .fact(
                "copy",
                format!(
                    "{} to its machine, if that is another one, and to nowhere else",
                    self.directory.display()
                ),
            )
            .fact(
                "start it",
                format!("millstream server --config {}", self.config.display()),
            );
        format!(
            "broker {} at {} may join cluster {} until {}\n\n{}",
            self.broker_id,
            self.address,
            self.cluster_id,
            self.expires_at,
            next.text(),
        )
    }
}

/// A broker that is being emptied.
#[derive(Debug, Serialize)]
struct Drains {
    draining: u32,
    /// Replicas that it has.
    keeps: u32,
    /// How many of these have nowhere to go.
    stuck: u32,
}

impl View for Drains {
    fn text(&self) -> String {
        let Self {
            draining,
            keeps,
            stuck,
        } = self;
        let replicas = counted((*keeps).into(), "replica");
        let mut text = match keeps {
            0 => format!(
                "broker {draining} keeps nothing: `millstream cluster remove {draining}` removes it\n"
            ),
            _ => format!(
                "broker {draining} is being emptied of {replicas}: `millstream cluster status` shows how far \
                 that is\n"
            ),
        };
        if *stuck > 0 {
            text += &format!(
                "there is nowhere to go for {stuck} of them: no other broker may take one, or too few of \
                 their replicas are there and whole to be copied\n"
            );
        }
        text
    }
}

/// A broker that is not to be emptied any more.
#[derive(Debug, Serialize)]
struct Stays {
    stays: u32,
}

impl View for Stays {
    fn text(&self) -> String {
        format!(
            "broker {} stays; what has moved does not come back by itself: `millstream cluster rebalance`\n",
            self.stays
        )
    }
}

/// A broker that is none any more.
#[derive(Debug, Serialize)]
struct Removed {
    removed: u32,
}

impl View for Removed {
    fn text(&self) -> String {
        format!(
            "broker {} is removed; if it runs it stops by itself\n",
            self.removed
        )
    }
}

/// What has changed for an even load.
#[derive(Debug, Serialize)]
struct Rebalanced {
    /// Partitions that have other replicas, or another preferred leader.
    moves: u32,
    /// Leaderships that have gone back to preferred leaders.
    leaders: u32,
}

impl View for Rebalanced {
    fn text(&self) -> String {
        match (self.moves, self.leaders) {
            (0, 0) => "the load is even: nothing has changed\n".to_owned(),
            (moves, leaders) => format!(
                "the load is even: {} changed their replicas, {} went back to preferred leaders\n",
                counted(moves.into(), "partition"),
                counted(leaders.into(), "leadership"),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::both_forms;

    #[test]
    fn what_was_done_is_told_with_what_comes_next() {
        let begun = Begun {
            directory: "/home/a/cluster".into(),
            broker_id: 1,
            address: "127.0.0.1:9092".to_owned(),
            config: "/home/a/cluster/broker-1/millstream.toml".into(),
            profile: "/home/a/cluster/profile.toml".into(),
            authority_key: "/home/a/cluster/authority.key".into(),
        };
        insta::assert_snapshot!(both_forms(&begun), @r#"
        a cluster in /home/a/cluster, of broker 1 at 127.0.0.1:9092

        start it:   millstream server --config /home/a/cluster/broker-1/millstream.toml
        look at it: millstream --profile /home/a/cluster/profile.toml cluster status
        one more:   millstream cluster join --dir /home/a/cluster

        whoever has /home/a/cluster/authority.key can make brokers and clients of the cluster: keep it to yourself
        ---
        {
          "directory": "/home/a/cluster",
          "broker_id": 1,
          "address": "127.0.0.1:9092",
          "config": "/home/a/cluster/broker-1/millstream.toml",
          "profile": "/home/a/cluster/profile.toml",
          "authority_key": "/home/a/cluster/authority.key"
        }
        "#);
        let invited = Invited {
            cluster_id: "0189dcd0-11aa-7000-8000-000000000001".to_owned(),
            broker_id: 2,
            address: "two.example:9092".to_owned(),
            directory: "/home/a/cluster/broker-2".into(),
            config: "/home/a/cluster/broker-2/millstream.toml".into(),
            expires_at: time_ms(1_517_270_400_123),
            expires_at_ms: 1_517_270_400_123,
        };
        insta::assert_snapshot!(both_forms(&invited), @r#"
        broker 2 at two.example:9092 may join cluster 0189dcd0-11aa-7000-8000-000000000001 until 2018-01-30T00:00:00.123Z

        copy:     /home/a/cluster/broker-2 to its machine, if that is another one, and to nowhere else
        start it: millstream server --config /home/a/cluster/broker-2/millstream.toml
        ---
        {
          "cluster_id": "0189dcd0-11aa-7000-8000-000000000001",
          "broker_id": 2,
          "address": "two.example:9092",
          "directory": "/home/a/cluster/broker-2",
          "config": "/home/a/cluster/broker-2/millstream.toml",
          "expires_at": "2018-01-30T00:00:00.123Z",
          "expires_at_ms": 1517270400123
        }
        "#);
    }

    #[test]
    fn what_becomes_of_a_broker_is_told() {
        let drains = |keeps, stuck| {
            both_forms(&Drains {
                draining: 3,
                keeps,
                stuck,
            })
        };
        insta::assert_snapshot!(drains(12, 0), @r#"
        broker 3 is being emptied of 12 replicas: `millstream cluster status` shows how far that is
        ---
        {
          "draining": 3,
          "keeps": 12,
          "stuck": 0
        }
        "#);
        insta::assert_snapshot!(drains(12, 5), @r#"
        broker 3 is being emptied of 12 replicas: `millstream cluster status` shows how far that is
        there is nowhere to go for 5 of them: no other broker may take one, or too few of their replicas are there and whole to be copied
        ---
        {
          "draining": 3,
          "keeps": 12,
          "stuck": 5
        }
        "#);
        insta::assert_snapshot!(drains(0, 0), @r#"
        broker 3 keeps nothing: `millstream cluster remove 3` removes it
        ---
        {
          "draining": 3,
          "keeps": 0,
          "stuck": 0
        }
        "#);
        insta::assert_snapshot!(both_forms(&Stays { stays: 3 }), @r#"
        broker 3 stays; what has moved does not come back by itself: `millstream cluster rebalance`
        ---
        {
          "stays": 3
        }
        "#);
        insta::assert_snapshot!(both_forms(&Removed { removed: 3 }), @r#"
        broker 3 is removed; if it runs it stops by itself
        ---
        {
          "removed": 3
        }
        "#);
        let rebalanced = |moves, leaders| both_forms(&Rebalanced { moves, leaders });
        insta::assert_snapshot!(rebalanced(0, 0), @r#"
        the load is even: nothing has changed
        ---
        {
          "moves": 0,
          "leaders": 0
        }
        "#);
        insta::assert_snapshot!(rebalanced(12, 1), @r#"
        the load is even: 12 partitions changed their replicas, 1 leadership went back to preferred leaders
        ---
        {
          "moves": 12,
          "leaders": 1
        }
        "#);
    }
}
