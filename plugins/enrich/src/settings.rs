//! The configuration.

use std::fmt;

use millstream_plugin::{Context, Failure, json};

use crate::lookup::Lookup;
use crate::object::{begin_field, quoted};

/// The added field of a deployment that does not name it.
const DEFAULT_FIELD: &str = "reference";

/// What becomes of a record whose key the table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is emitted as it came.
    Pass,
    /// It is left out.
    Drop,
    /// It is rejected, and becomes a dead letter.
    Reject,
}

/// What a deployment configures.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) lookup: Lookup,
    /// The name of the field that is added.
    pub(crate) add: String,
    /// The fields that are taken over; none: all.
    take: Vec<String>,
    pub(crate) missing: Missing,
}

impl Settings {
    /// Reads `field`, `as`, `take` and `missing`.
    pub(crate) fn configured(context: &Context) -> Result<Self, String> {
        let lookup = match context.config("field") {
            None => Lookup::Key,
            Some("") => return Err("field must be the name of a field, or not be set".to_owned()),
            Some(name) => Lookup::Field(name.to_owned()),
        };
        let add = context.config("as").unwrap_or(DEFAULT_FIELD);
        if add.is_empty() {
            return Err("as must be the name of a field, or not be set".to_owned());
        }
        let take = match context.config("take") {
            None => Vec::new(),
            Some(names) => names
                .split(',')
                .map(|name| name.trim().to_owned())
                .collect(),
        };
        if take.iter().any(String::is_empty) {
            return Err("take must be names of fields, with commas between them".to_owned());
        }
        let missing = match context.config("missing") {
            None | Some("pass") => Missing::Pass,
            Some("drop") => Missing::Drop,
            Some("reject") => Missing::Reject,
            Some(other) => {
                return Err(format!(
                    "missing must be pass, drop or reject, not `{other}`"
                ));
            }
        };
        Ok(Self {
            lookup,
            add: add.to_owned(),
            take,
            missing,
        })
    }

    /// The name of the field that is looked up. No field is called nothing by a deployment.
    pub(crate) fn field_name(&self) -> &str {
        match &self.lookup {
            Lookup::Key => "",
            Lookup::Field(name) => name,
        }
    }

    /// Writes what is taken over from a value of the table.
    ///
    /// # Errors
    ///
    /// The value is not a JSON object, and the record is to be rejected.
    pub(crate) fn take(&self, known: &[u8], json: &mut Vec<u8>) -> Result<(), Failure> {
        let no_object = |error| Failure::reject(format_args!("the table's value: {error}"));
        if self.take.is_empty() {
            json::fields(known, []).map_err(no_object)?;
            json.extend_from_slice(known.trim_ascii());
            return Ok(());
        }
        json.push(b'{');
        let mut is_first = true;
        for name in &self.take {
            let [value] = json::fields(known, [name.as_str()]).map_err(no_object)?;
            if let Some(value) = value {
                begin_field(name, std::mem::take(&mut is_first), json)?;
                json.extend_from_slice(value.as_bytes());
            }
        }
        json.push(b'}');
        Ok(())
    }
}

/// What is done, for the log.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("looks up ")?;
        match &self.lookup {
            Lookup::Key => f.write_str("each key")?,
            Lookup::Field(name) => write!(f, "each {}", quoted(name))?,
        }
        write!(f, ", adds {}", quoted(&self.add))
    }
}
