//! `millstream plugin replay`.

use std::path::PathBuf;

use clap::Args;
use millstream::{DeploymentDescription, default_shadow};

use super::{deploy, upgrade};
use crate::cli::Context;
use crate::parse::{PositionArg, now_ms};

#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// The live deployment
    name: String,

    /// Where to start: earliest, offset:N, time:T or a duration back from now
    #[arg(long, default_value_t = PositionArg::Earliest, value_name = "POSITION")]
    from: PositionArg,

    /// Where to end, likewise; nowhere behind the live deployment [default: where it is now]
    #[arg(long, value_name = "POSITION")]
    until: Option<PositionArg>,

    /// Another component than the live one's, or the crate to build it from
    #[arg(long, value_name = "COMPONENT|CRATE")]
    component: Option<PathBuf>,

    /// The file that declares what the deployment is to be, component and settings
    #[arg(short, long, value_name = "FILE", conflicts_with = "component")]
    file: Option<PathBuf>,

    /// The shadow's name [default: NAME.shadow]
    #[arg(long = "as", value_name = "SHADOW")]
    shadow: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ShadowArgs {
    /// The live deployment
    pub(super) name: String,

    /// The shadow [default: NAME.shadow]
    #[arg(long = "as", value_name = "SHADOW")]
    pub(super) shadow: Option<String>,
}

impl ShadowArgs {
    pub(super) fn shadow(&self) -> String {
        let given = self.shadow.clone();
        given.unwrap_or_else(|| default_shadow(&self.name))
    }
}

pub(super) async fn run(
    args: ReplayArgs,
    context: &Context,
) -> anyhow::Result<DeploymentDescription> {
    let now_ms = now_ms();
    let admin = context.admin().await?;
    let mut replay = admin.replay_plugin(&args.name).from(args.from.at(now_ms));
    if let Some(until) = args.until {
        replay = replay.until(until.at(now_ms));
    }
    if let Some(shadow) = args.shadow {
        replay = replay.shadow(shadow);
    }
    if let Some(path) = &args.component {
        replay = replay.component(deploy::component(path).await?.1);
    }
    if let Some(file) = &args.file {
        let (component, spec) = upgrade::declared(&args.name, file).await?;
        replay = replay.component(component).spec(spec);
    }
    Ok(replay.await?)
}
