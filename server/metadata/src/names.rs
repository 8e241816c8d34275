//! What a name may be.

use millstream_protocol::limits::MAX_NAME_BYTES;

use crate::command::Actor;
use crate::error::NameError;

/// Names that begin with this are the broker's own.
pub const RESERVED_PREFIX: &str = "__";

/// Whether a topic of this name is the broker's own.
pub fn is_internal(topic: &str) -> bool {
    topic.starts_with(RESERVED_PREFIX)
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
