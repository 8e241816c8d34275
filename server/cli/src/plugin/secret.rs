//! `millstream plugin secret`: what an operator gives to plugins, by name. Values go in and do not come
//! out.

use std::fs::File;
use std::io::{IsTerminal as _, Read, stdin};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use millstream::SecretDescription;
use millstream_protocol::limits::MAX_SECRET_BYTES;
use serde::Serialize;

use crate::cli::Context;
use crate::errors::Problem;
use crate::output::{Output, Table, View, time_ms};

#[derive(Subcommand, Debug)]
pub(crate) enum SecretCommand {
    /// Keeps a secret, or sets it anew: plugins find the new value when they ask next
    Set(SetArgs),
    /// Lists the secrets' names, and the deployments that are granted each
    List,
    /// Forgets secrets that no deployment is granted
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// The secret's name
    name: String,

    /// Reads the value from this file, in place of standard input. A line end behind it is not part of
    /// it. (There is no option for the value: other users of the machine could see it.)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    /// The secrets
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Runs one of them.
pub(super) async fn run(command: SecretCommand, context: &Context) -> anyhow::Result<()> {
    let output = context.output;
    match command {
        SecretCommand::Set(args) => {
            let value = read(args.file, output).await?;
            context.admin().await?.set_secret(&args.name, value).await?;
            output.print(&Kept { kept: args.name })
        }
        SecretCommand::List => {
            output.print(&Secrets::of(context.admin().await?.list_secrets().await?))
        }
        SecretCommand::Remove(args) => {
            let admin = context.admin().await?;
            for name in &args.names {
                admin.remove_secret(name).await?;
            }
            output.print(&Forgotten {
                removed: args.names,
            })
        }
    }
}

async fn read(file: Option<PathBuf>, output: Output) -> anyhow::Result<String> {
    if file.is_none() && stdin().is_terminal() {
        output
            .say("the value is read from standard input: end it with Ctrl-D on a line of its own");
    }
    // Standard input may keep its reader waiting.
    let reading = tokio::task::spawn_blocking(move || match file {
        Some(path) => {
            let cannot_read = || format!("cannot read {}", path.display());
            let file = File::open(&path).with_context(cannot_read)?;
            value(file, &path)
        }
        None => value(stdin().lock(), Path::new("standard input")),
    });
    reading.await.context("the value was not read")?
}

/// A secret's value, without the line end behind it.
fn value(from: impl Read, path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    // With room for a line end.
    from.take(MAX_SECRET_BYTES as u64 + 3)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let problem = |what: &str| {
        let message = format!("what {} holds {what}", path.display());
        Problem::usage(message).advise("a secret is a text of at most 16 KiB")
    };
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(problem("is too large for a secret").into());
    }
    // The error would show what it found.
    let text = std::str::from_utf8(bytes).map_err(|_| problem("is no text in UTF-8"))?;
    Ok(text.to_owned())
}

/// That a secret is kept.
#[derive(Debug, Serialize)]
struct Kept {
    kept: String,
}

impl View for Kept {
    fn text(&self) -> String {
        format!("secret {} is kept\n", self.kept)
    }
}

/// That secrets are gone.
#[derive(Debug, Serialize)]
struct Forgotten {
    removed: Vec<String>,
}

impl View for Forgotten {
    fn text(&self) -> String {
        let line = |name: &String| format!("removed secret {name}\n");
        self.removed.iter().map(line).collect()
    }
}

/// Secrets, a line each.
#[derive(Debug, Serialize)]
struct Secrets {
    secrets: Vec<SecretView>,
}

#[derive(Debug, Serialize)]
struct SecretView {
    name: String,
    set_at_ms: i64,
    deployments: Vec<String>,
}

impl Secrets {
    fn of(secrets: Vec<SecretDescription>) -> Self {
        let view = |secret: SecretDescription| SecretView {
            name: secret.name,
            set_at_ms: secret.set_at_ms,
            deployments: secret.deployments,
        };
        Self {
            secrets: secrets.into_iter().map(view).collect(),
        }
    }
}

impl View for Secrets {
    fn text(&self) -> String {
        let mut table = Table::new(&["NAME", "SET AT", "GRANTED TO"], "no secrets");
        for secret in &self.secrets {
            table.row([
                secret.name.clone(),
                time_ms(secret.set_at_ms),
                secret.deployments.join(" "),
            ]);
        }
        table.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_stands_before_the_line_end() {
        let read = |bytes: &[u8]| value(bytes, Path::new("key")).map_err(|error| error.to_string());
        assert_eq!(read(b"hunter2\n").unwrap(), "hunter2");
        assert_eq!(read(b"hunter2\r\n").unwrap(), "hunter2");
        assert_eq!(read(b"two\nlines\n\n").unwrap(), "two\nlines\n");
        let longest = "x".repeat(MAX_SECRET_BYTES);
        assert_eq!(read(format!("{longest}\r\n").as_bytes()).unwrap(), longest);
        let error = read(format!("{longest}x\n").as_bytes()).unwrap_err();
        assert_eq!(error, "what key holds is too large for a secret");
        assert_eq!(
            read(b"\xff").unwrap_err(),
            "what key holds is no text in UTF-8"
        );
    }
}
