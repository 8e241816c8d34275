//! `millstream plugin remove`.

use std::fmt::Write as _;

use clap::Args;
use millstream::{Admin, DeploymentDescription, ErrorCode, FailureAction};
use serde::Serialize;

use super::started::has_looked;
use super::view::waiting_in;
use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::{View, counted};

/// What stays, for `--help`.
pub(super) const HELP: &str = "\
What goes: the workers, the state, the timers, the revisions and their components, and of a shadow all that it \
has written. Records that wait to be tried again, and those behind them, would go as well, for the group is past \
them: where there are some, it is refused without --force. What stays, and is told with the command that deletes it:
  the dead-letter topic    records that were not handled, for the next one of this name
                           `millstream topic delete TOPIC`
  the group                the offsets from which a deployment of this name goes on
                           `millstream group delete NAME`
  inputs, outputs, tables  they are other people's as well";

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// The deployments
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,

    /// Also those with records that wait to be tried again: these are lost
    #[arg(long)]
    force: bool,
}

/// What was removed, and what is still there of it.
#[derive(Default, Serialize)]
struct Removed {
    removed: Vec<String>,
    left: Vec<Left>,
}

impl Removed {
    fn add(&mut self, name: String, left: Left) {
        self.removed.push(name);
        self.left.push(left);
    }
}

/// What one deployment has left.
#[derive(Serialize)]
struct Left {
    deployment: String,
    /// Its dead-letter topic, if it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_topic: Option<String>,
    /// The records in it.
    dead_letters: u64,
    /// Its group, if it has one with offsets.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

pub(super) async fn run(args: RemoveArgs, context: &Context) -> anyhow::Result<()> {
    let admin = context.admin().await?;
    keeps_its_shadow(&admin, &args.names).await?;
    // A name that is wrong is told before anything is gone.
    let mut removing: Vec<DeploymentDescription> = Vec::new();
    for name in &args.names {
        if removing.iter().all(|it| it.spec.name != *name) {
            removing.push(admin.describe_plugin(name).await?);
        }
    }
    if !args.force {
        for deployed in &removing {
            keeps_its_records(&admin, deployed).await?;
        }
    }
    let mut done = Removed::default();
    for deployed in removing {
        let name = deployed.spec.name.clone();
        let removed = async {
            admin.remove_plugin(&name).await?;
            left_by(&admin, deployed).await
        };
        match removed.await {
            Ok(left) => done.add(name, left),
            Err(error) => {
                // What is gone is told all the same.
                if !done.removed.is_empty() {
                    context.output.print(&done)?;
                }
                return Err(error.into());
            }
        }
    }
    context.output.print(&done)
}

/// Refuses to remove a live deployment from beside its shadow, unless that goes before it.
async fn keeps_its_shadow(admin: &Admin, names: &[String]) -> anyhow::Result<()> {
    let deployed = admin.list_plugins().await?;
    for (at, live) in names.iter().enumerate() {
        let shadows = deployed
            .iter()
            .filter(|it| it.shadow_of.as_ref() == Some(live));
        let shadows: Vec<&str> = shadows.map(|it| it.spec.name.as_str()).collect();
        let goes_before = |shadow: &&str| names[..at].iter().any(|name| name == shadow);
        if shadows.iter().all(goes_before) {
            continue;
        }
        let message = format!(
            "deployment {live} has the {} {}",
            match shadows.len() {
                1 => "shadow",
                _ => "shadows",
            },
            shadows.join(" and ")
        );
        let advice = format!(
            "`millstream plugin remove {} {live}` removes all of them; `millstream plugin promote {live} --as {}` puts a shadow in its place",
            shadows.join(" "),
            shadows[0]
        );
        return Err(Problem::new(Exit::Refused, message).advise(advice).into());
    }
    Ok(())
}

/// Refuses to remove a live deployment with records that its group is past and that are not handled.
async fn keeps_its_records(admin: &Admin, deployed: &DeploymentDescription) -> Result<(), Problem> {
    if deployed.shadow_of.is_some() {
        return Ok(());
    }
    let name = &deployed.spec.name;
    let anyway = format!("`millstream plugin remove --force {name}` removes it all the same");
    let (deployed, all_looked) = has_looked(admin, deployed.clone()).await;
    let parked = deployed.workers.iter().map(|worker| worker.parked).sum();
    let (message, advice) = if parked > 0 {
        let message = format!(
            "deployment {name} has {} to be tried again, which would be lost",
            counted(parked, "record")
        );
        let way = match deployed.spec.on_failure.finally {
            FailureAction::Pause => {
                "an upgrade that takes them has it go on, and a reset of its group gives all of them up"
            }
            FailureAction::DeadLetter { .. } | FailureAction::Skip => {
                "they are handled, or given up after the last of their attempts"
            }
        };
        let advice = format!("`millstream plugin logs {name}` says why; {way}; {anyway}");
        (message, advice)
    } else if !all_looked {
        let message = format!(
            "deployment {name} has workers that have not begun since the broker was started: if there are records to \
             be tried again, they would be lost"
        );
        let advice = format!(
            "`millstream plugin describe {name}` says how they are, `millstream plugin resume {name}` has them go on \
             if it is paused; {anyway}"
        );
        (message, advice)
    } else {
        return Ok(());
    };
    Err(Problem::new(Exit::Refused, message).advise(advice))
}

/// What is there after a deployment was removed.
async fn left_by(admin: &Admin, removed: DeploymentDescription) -> millstream::Result<Left> {
    let deployment = removed.spec.name;
    let topic = match removed.spec.on_failure.finally {
        FailureAction::DeadLetter { topic } => Some(topic),
        FailureAction::Skip | FailureAction::Pause => None,
    };
    let dead_letters = match &topic {
        Some(topic) => waiting_in(admin, topic).await?,
        None => None,
    };
    let group = match admin.describe_group(&deployment).await {
        Ok(_) => Some(deployment.clone()),
        Err(error) if error.code() == Some(ErrorCode::UnknownGroup) => None,
        Err(error) => return Err(error),
    };
    Ok(Left {
        deployment,
        dead_letter_topic: topic.filter(|_| dead_letters.is_some()),
        dead_letters: dead_letters.unwrap_or_default(),
        group,
    })
}

impl View for Removed {
    fn text(&self) -> String {
        let mut text = String::new();
        for left in &self.left {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "removed deployment {}", left.deployment);
            if let Some(topic) = &left.dead_letter_topic {
                let _ = writeln!(
                    text,
                    "its dead-letter topic {topic} stays, with {}; `millstream topic delete {topic}` deletes it",
                    counted(left.dead_letters, "record"),
                );
            }
            if let Some(group) = &left.group {
                let _ = writeln!(
                    text,
                    "its group stays, with the offsets from which a deployment of this name goes on; \
                     `millstream group delete {group}` deletes it",
                );
            }
        }
        text
    }
}
