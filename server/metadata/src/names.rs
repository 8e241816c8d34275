//! What a name may be.

use millstream_protocol::TopicId;
use millstream_protocol::limits::MAX_NAME_BYTES;
use uuid::Uuid;

use crate::command::Actor;
use crate::deployment::DeploymentId;
use crate::error::NameError;

/// Names that begin with this are the broker's own.
pub const RESERVED_PREFIX: &str = "__";

/// Whether a topic of this name is the broker's own.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with(RESERVED_PREFIX)
}

/// What the names of the topics begin with that hold workers' journals.
const JOURNAL_PREFIX: &str = "__journal.";

/// The topic with a deployment's journals beside the partitions of an input topic. Of the input by
/// its identity: one that is deleted and made again is another.
pub fn journal_topic(deployment_id: DeploymentId, input: TopicId) -> String {
    format!("{JOURNAL_PREFIX}{deployment_id}.{input}")
}

/// Whether a topic holds journals.
pub fn is_journal(topic: &str) -> bool {
    topic.starts_with(JOURNAL_PREFIX)
}

/// Whether a topic holds journals of this deployment.
pub fn is_journal_of(topic: &str, deployment_id: DeploymentId) -> bool {
    journal(topic).is_some_and(|(of, _)| of == deployment_id)
}

/// The input topic beside whose partitions a topic holds journals.
pub fn journal_input(topic: &str) -> Option<TopicId> {
    journal(topic).map(|(_, input)| input)
}

fn journal(topic: &str) -> Option<(DeploymentId, TopicId)> {
    let (deployment, input) = topic.strip_prefix(JOURNAL_PREFIX)?.split_once('.')?;
    let read = |id| Uuid::try_parse(id).ok();
    Some((DeploymentId(read(deployment)?), TopicId(read(input)?)))
}

/// Where the names of journals begin in the order of names.
pub(crate) fn first_journal() -> &'static str {
    JOURNAL_PREFIX
}

/// Refuses what is no name: it has 1 to 249 letters, digits, `.`, `_` and `-` of ASCII, and is
/// neither `.` nor `..`. So it can be a directory's, and needs no quotes in a shell or a URL.
pub fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong {
            what,
            bytes: name.len(),
        });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if let Some(character) = name.chars().find(|&c| !allowed(c)) {
        return Err(NameError::Character {
            what,
            name: name.to_owned(),
            character,
        });
    }
    if matches!(name, "." | "..") {
        return Err(NameError::Dots {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}

/// As [`check_name`], and refuses the broker's own names to users.
pub fn check_name_for(actor: Actor, what: &'static str, name: &str) -> Result<(), NameError> {
    check_name(what, name)?;
    check_not_reserved(actor, what, name)
}

pub(crate) fn check_not_reserved(
    actor: Actor,
    what: &'static str,
    name: &str,
) -> Result<(), NameError> {
    if actor == Actor::User && is_internal(name) {
        return Err(NameError::Reserved {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}
