//! `millstream plugin history` and `rollback`: a deployment's revisions.

use clap::Args;
use millstream::RevisionDescription;
use serde::Serialize;

use super::view::{change, change_text, rolled_back_to};
use crate::errors::{Exit, Problem};
use crate::output::{Table, View, bytes, plain, time_ms};

/// Digits of a digest that tell one component from another.
const DIGITS_SHOWN: usize = 12;

/// Differences that are told in one line.
const DIFFERENCES_SHOWN: usize = 4;

#[derive(Args, Debug)]
pub(crate) struct RollbackArgs {
    /// The deployment
    pub(super) name: String,

    /// The revision to put back [default: the one before the one at work]
    #[arg(long, value_name = "REVISION")]
    pub(super) to: Option<u32>,
}

/// The revisions of a deployment that are kept.
#[derive(Debug, Serialize)]
pub(super) struct History {
    deployment: String,
    /// The oldest first; the last one is at work.
    revisions: Vec<RevisionView>,
}

#[derive(Debug, Serialize)]
struct RevisionView {
    revision: u32,
    /// The component's SHA-256.
    digest: String,
    component_bytes: u64,
    at_ms: i64,
    by: String,
    /// `deployed`, `upgraded`, `rolled-back` or `promoted`.
    change: &'static str,
    /// The revision that was put back.
    rolled_back_to: Option<u32>,
    /// The settings in which it differs from the one before it.
    differs_in: Vec<String>,
}

impl History {
    pub(super) fn of(deployment: String, revisions: &[RevisionDescription]) -> Self {
        let view = |revision: &RevisionDescription| RevisionView {
            revision: revision.revision,
            digest: revision.digest.clone(),
            component_bytes: revision.component_bytes,
            at_ms: revision.at_ms,
            by: revision.by.clone(),
            change: change(&revision.change),
            rolled_back_to: rolled_back_to(&revision.change),
            differs_in: revision.differs_in.clone(),
        };
        Self {
            deployment,
            revisions: revisions.iter().map(view).collect(),
        }
    }
}

/// Refuses a revision that a deployment does not have.
pub(super) fn check_kept(
    deployment: &str,
    to: u32,
    revisions: &[RevisionDescription],
) -> Result<(), Problem> {
    if revisions.iter().any(|it| it.revision == to) {
        return Ok(());
    }
    let kept: Vec<_> = revisions.iter().map(|it| it.revision.to_string()).collect();
    let kept = match kept.as_slice() {
        [] => "it has none".to_owned(),
        [at_work] => format!("its only revision is {at_work}, which is at work"),
        [earlier @ .., at_work] => {
            format!(
                "earlier revisions are {}, and {at_work} is at work",
                earlier.join(", ")
            )
        }
    };
    Err(Problem::new(
        Exit::NotFound,
        format!("deployment {deployment} has no revision {to}: {kept}"),
    )
    .advise("`millstream plugin history` shows what was in each"))
}

/// Refuses to go back where there is nothing before.
pub(super) fn check_before(
    deployment: &str,
    revisions: &[RevisionDescription],
) -> Result<(), Problem> {
    let [.., _, _] = revisions else {
        let at_work = match revisions {
            [at_work] => format!(": its only revision is {}", at_work.revision),
            _ => String::new(),
        };
        let message = format!("deployment {deployment} has nothing to go back to{at_work}");
        return Err(Problem::new(Exit::NotFound, message).advise(format!(
            "nothing was changed; `millstream plugin upgrade {deployment} -f FILE` puts another version in its place, `millstream plugin pause {deployment}` has it stand still"
        )));
    };
    Ok(())
}

impl View for History {
    fn text(&self) -> String {
        const COLUMNS: &[&str] = &[
            "#REVISION",
            "TIME",
            "BY",
            "WHAT",
            "COMPONENT",
            "#SIZE",
            "DIFFERS IN",
        ];
        let mut table = Table::new(COLUMNS, "no revisions");
        for revision in &self.revisions {
            let digest = revision.digest.chars().take(DIGITS_SHOWN);
            table.row([
                revision.revision.to_string(),
                time_ms(revision.at_ms),
                plain(&revision.by),
                change_text(revision.change, revision.rolled_back_to),
                digest.collect(),
                bytes(revision.component_bytes),
                plain(&revision.differs_in.join(", ")),
            ]);
        }
        table.text()
    }
}

/// The first differences, and the settings in which there are more.
pub(super) fn in_one_line(differences: &[String]) -> String {
    let (shown, more) = differences.split_at(differences.len().min(DIFFERENCES_SHOWN));
    let mut text = shown.join(", ");
    let setting = |text: &String| text.split([' ', ':']).next().map(str::to_owned);
    let mut settings: Vec<String> = more.iter().filter_map(setting).collect();
    settings.dedup();
    if !settings.is_empty() {
        text += &format!(", and {} more in {}", more.len(), settings.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use millstream::RevisionChange;

    use super::*;
    use crate::output::both_forms;

    fn revision(number: u32, change: RevisionChange, differs_in: &[&str]) -> RevisionDescription {
        RevisionDescription {
            revision: number,
            digest: format!("{number:064}"),
            component_bytes: 70_000,
            at_ms: 1_517_270_400_000 + i64::from(number),
            by: "operator".to_owned(),
            change,
            differs_in: differs_in.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn a_revision_that_is_not_kept_is_refused_with_those_that_are() {
        let both = [1, 2].map(|number| revision(number, RevisionChange::Deployed, &[]));
        let refused = |revisions: &[RevisionDescription]| {
            let problem = check_kept("a", 99, revisions).unwrap_err();
            assert_eq!(problem.exit(), Exit::NotFound);
            problem.to_string()
        };
        insta::assert_snapshot!(refused(&both[..1]), @"deployment a has no revision 99: its only revision is 1, which is at work");
        insta::assert_snapshot!(refused(&both), @"deployment a has no revision 99: earlier revisions are 1, and 2 is at work");
        check_kept("a", 1, &both).unwrap();
    }

    #[test]
    fn differences_in_one_line() {
        let six: Vec<_> = (1..=6).map(|it| format!("config {it}: a → b")).collect();
        assert_eq!(in_one_line(&six[..1]), "config 1: a → b");
        let [four, six] = [4, 6].map(|number| in_one_line(&six[..number]));
        assert_eq!(six, format!("{four}, and 2 more in config"));
    }

    #[test]
    fn revisions_a_line_each() {
        let revisions = [
            revision(1, RevisionChange::Deployed, &[]),
            revision(2, RevisionChange::Upgraded, &["component", "config"]),
            revision(3, RevisionChange::RolledBack { to: 1 }, &["component"]),
        ];
        let history = History::of("quake-alert".to_owned(), &revisions);
        insta::assert_snapshot!(both_forms(&history), @r#"
        REVISION  TIME                      BY        WHAT              COMPONENT         SIZE  DIFFERS IN
               1  2018-01-30T00:00:00.001Z  operator  deployed          000000000000  68.4 KiB  -
               2  2018-01-30T00:00:00.002Z  operator  upgraded          000000000000  68.4 KiB  component, config
               3  2018-01-30T00:00:00.003Z  operator  rolled back to 1  000000000000  68.4 KiB  component
        ---
        {
          "deployment": "quake-alert",
          "revisions": [
            {
              "revision": 1,
              "digest": "0000000000000000000000000000000000000000000000000000000000000001",
              "component_bytes": 70000,
              "at_ms": 1517270400001,
              "by": "operator",
              "change": "deployed",
              "rolled_back_to": null,
              "differs_in": []
            },
            {
              "revision": 2,
              "digest": "0000000000000000000000000000000000000000000000000000000000000002",
              "component_bytes": 70000,
              "at_ms": 1517270400002,
              "by": "operator",
              "change": "upgraded",
              "rolled_back_to": null,
              "differs_in": [
                "component",
                "config"
              ]
            },
            {
              "revision": 3,
              "digest": "0000000000000000000000000000000000000000000000000000000000000003",
              "component_bytes": 70000,
              "at_ms": 1517270400003,
              "by": "operator",
              "change": "rolled-back",
              "rolled_back_to": 1,
              "differs_in": [
                "component"
              ]
            }
          ]
        }
        "#);
    }
}
