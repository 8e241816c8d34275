//! `millstream plugin upgrade`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use millstream::{DeployPlugin, DeploymentDescription, MissingTopics, OnExisting};

use super::{deploy, manifest};
use crate::cli::Context;
use crate::errors::Problem;
use crate::output::bytes;

#[derive(Args, Debug)]
pub(crate) struct UpgradeArgs {
    /// The deployment
    name: String,

    /// The new component's file, or the crate to build it from; the settings stay
    #[arg(value_name = "COMPONENT|CRATE", required_unless_present = "file")]
    path: Option<PathBuf>,

    /// The file that declares the deployment, component and settings
    #[arg(short, long, value_name = "FILE", conflicts_with = "path")]
    file: Option<PathBuf>,
}

pub(super) async fn run(
    args: UpgradeArgs,
    context: &Context,
) -> anyhow::Result<DeploymentDescription> {
    let (component, request) = match (&args.path, &args.file) {
        (_, Some(file)) => {
            let (component, request) = declared(&args.name, file).await?;
            (component, Some(request))
        }
        (Some(path), None) => (deploy::component(path).await?.1, None),
        (None, None) => return Err(Problem::usage("no component is named").into()),
    };
    let admin = context.admin().await?;
    let deployed = admin.describe_plugin(&args.name).await?;
    let request = request.unwrap_or_else(|| DeployPlugin {
        spec: deployed.spec.clone(),
        on_existing: OnExisting::Upgrade,
        missing_topics: MissingTopics::Refuse,
    });
    if request.spec == deployed.spec && millstream_runtime::digest(&component) == deployed.digest {
        context.output.say(format_args!(
            "deployment {} is at work with this component and these settings: nothing changed",
            args.name
        ));
        return Ok(deployed);
    }
    context.output.say(format_args!(
        "upgrading {} ({})",
        args.name,
        bytes(component.len() as u64)
    ));
    deploy::put(component, request, &admin, context).await
}

/// The component of a deployment and the upgrade to it, as a file declares them.
pub(super) async fn declared(name: &str, file: &Path) -> anyhow::Result<(Bytes, DeployPlugin)> {
    let declared = manifest::read(file)?;
    let (default_name, component) = deploy::component_of(file, &declared).await?;
    let spec = declared.spec(&default_name)?;
    if spec.name != name {
        let message = format!(
            "{} declares the deployment {}, not {name}",
            file.display(),
            spec.name
        );
        return Err(Problem::usage(message)
            .advise("name the deployment that the file declares")
            .into());
    }
    Ok((component, declared.request(spec, OnExisting::Upgrade)))
}
