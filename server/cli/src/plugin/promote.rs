//! `millstream plugin promote`.

use clap::Args;
use millstream::{DeploymentDescription, Error, ErrorCode};

use super::replay::ShadowArgs;
use super::started::started;
use crate::cli::Context;
use crate::errors::{Exit, Problem};
use crate::output::Output;

#[derive(Args, Debug)]
pub(crate) struct PromoteArgs {
    #[command(flatten)]
    shadow: ShadowArgs,

    /// Promotes a shadow that has replayed a part of history though its plugin keeps a state: what that
    /// came to takes the place of the live one's state
    #[arg(long)]
    partial_state: bool,
}

pub(super) async fn run(
    args: PromoteArgs,
    context: &Context,
) -> anyhow::Result<DeploymentDescription> {
    let admin = context.admin().await?;
    let shadow = args.shadow.shadow(&admin).await?;
    let name = args.shadow.name;
    let mut promoting = admin.promote_plugin(&name, &shadow);
    if args.partial_state {
        promoting = promoting.with_partial_state();
    }
    // A signal drops this where it is.
    let cut_off = CutOff {
        name: &name,
        shadow: &shadow,
        output: context.output,
    };
    context.output.say(format_args!(
        "promoting {shadow}: both have to come to the same offsets"
    ));
    let promoted = promoting.await;
    std::mem::forget(cut_off);
    match promoted {
        Ok(promoted) => Ok(started(&admin, promoted).await),
        Err(error) if is_unanswered(&error) => {
            let problem = Problem::new(
                Exit::Unreachable,
                format!("the broker has not said whether {shadow} was promoted"),
            );
            Err(anyhow::Error::from(error).context(problem.advise(how_to_go_on(&name, &shadow))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether it is not known what became of the request.
fn is_unanswered(error: &Error) -> bool {
    match error {
        Error::ConnectionLost(_) | Error::Timeout { .. } | Error::Connect(_) => true,
        error => error.code() == Some(ErrorCode::ShuttingDown),
    }
}

/// A promotion is one step on the broker: it was made, or it was not.
fn how_to_go_on(name: &str, shadow: &str) -> String {
    format!(
        "either it is done or both are as they were: `millstream plugin history {name}` ends with `promoted` when it is done; \
         otherwise `millstream plugin promote {name} --as {shadow}` again does it"
    )
}

/// Says, when the command is ended before its answer is there, how things stand.
struct CutOff<'a> {
    name: &'a str,
    shadow: &'a str,
    output: Output,
}

impl Drop for CutOff<'_> {
    fn drop(&mut self) {
        self.output.say(format_args!(
            "the broker goes on with the promotion of {}; {}",
            self.shadow,
            how_to_go_on(self.name, self.shadow)
        ));
    }
}
