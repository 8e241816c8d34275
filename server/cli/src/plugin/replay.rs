//! `millstream plugin replay`.

use std::path::PathBuf;

use clap::Args;
use millstream::{Admin, DeploymentDescription, ErrorCode, default_shadow};

use super::started::started;
use super::{deploy, upgrade};
use crate::cli::Context;
use crate::errors::{Exit, Problem};
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
    /// The shadow's name, of a shadow that is there.
    pub(super) async fn shadow(&self, admin: &Admin) -> anyhow::Result<String> {
        let Self { name, shadow } = self;
        let default = default_shadow(name);
        let shadow = shadow.as_ref().unwrap_or(&default);
        let live = admin.describe_plugin(name).await?;
        if let Some(of) = live.shadow_of {
            return Err(
                Problem::usage(format!("deployment {name} is a shadow itself"))
                    .advise(format!("name the live deployment: {of}"))
                    .into(),
            );
        }
        match admin.describe_plugin(shadow).await {
            Ok(_) => Ok(shadow.clone()),
            Err(error) if error.code() == Some(ErrorCode::UnknownDeployment) => {
                let named = match *shadow == default {
                    true => String::new(),
                    false => format!(" --as {shadow}"),
                };
                let message = format!(
                    "deployment {name} has no shadow {shadow}: no replay of it was started"
                );
                let problem = Problem::new(Exit::NotFound, message).advise(format!(
                    "`millstream plugin replay {name}{named} --from earliest` starts one over all of history"
                ));
                Err(anyhow::Error::from(error).context(problem))
            }
            Err(error) => Err(error.into()),
        }
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
    let shadow = args.shadow.unwrap_or_else(|| default_shadow(&args.name));
    replay = replay.shadow(&shadow);
    if let Some(path) = &args.component {
        replay = replay.component(deploy::component(path).await?.1);
    }
    if let Some(file) = &args.file {
        let (component, declared) = upgrade::declared(&args.name, file).await?;
        replay = replay.component(component).spec(declared.spec);
    }
    let replayed = match replay.await {
        Err(error) if error.code() == Some(ErrorCode::DeploymentExists) => {
            let message = format!("{} cannot be replayed as {shadow}", args.name);
            let there = admin.describe_plugin(&shadow).await;
            let is_earlier = there.is_ok_and(|there| there.shadow_of.as_ref() == Some(&args.name));
            let advice = match is_earlier {
                true => format!(
                    "`millstream plugin remove {shadow}` forgets an earlier replay; `--as` names this one otherwise"
                ),
                false => format!(
                    "that is no replay of {}: `--as` names this one otherwise",
                    args.name
                ),
            };
            let problem = Problem::new(Exit::Refused, message).advise(advice);
            return Err(anyhow::Error::from(error).context(problem));
        }
        replayed => replayed?,
    };
    Ok(started(&admin, replayed).await)
}
