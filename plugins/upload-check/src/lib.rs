//! Looks whether an upload may be published: the second of three plugins that react to one event.
//!
//! It has two inputs. The event itself says whether there is a licence at all, which is objected to at
//! once; the file that the first plugin has compressed says what is in it. Of each upload there is one
//! verdict.
//!
//! # Layout
//!
//! - `protected`: the passages that nobody may upload, from the configuration
//! - `upload`: what is read of an upload, from either input

mod protected;
mod upload;

use std::error::Error;

use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, log, metrics};
use serde::Serialize;

use crate::protected::Protected;
use crate::upload::Upload;

/// One worker.
pub struct UploadCheck {
    protected: Protected,
    verdicts: Output,
}

/// What becomes of an upload.
#[derive(Serialize)]
struct Verdict<'a> {
    id: &'a str,
    user: &'a str,
    title: &'a str,
    /// `cleared` or `blocked`.
    verdict: &'static str,
    /// Why it is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// Reads the configuration (`protected`) and the output `verdicts`.
pub fn init(context: &Context) -> Result<UploadCheck, Box<dyn Error>> {
    let protected = Protected::configured(context)?;
    log::info(format_args!("{} protected passages", protected.count()));
    Ok(UploadCheck {
        protected,
        verdicts: context.output("verdicts")?,
    })
}

/// Emits a verdict, once it can be told.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut UploadCheck,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let upload = Upload::read(&record)?;
    let found;
    let reason = match (&upload.content, upload.licensed) {
        // An event without a licence: nothing that is in the file could help.
        (None, false) => Some("it names no licence"),
        // An event with one. The file decides, when it is compressed.
        (None, true) => return Ok(()),
        // That has been told already.
        (Some(_), false) => return Ok(()),
        (Some(content), true) => {
            found = worker.protected.found_in(content);
            found.as_deref()
        }
    };
    let verdict = Verdict {
        id: &upload.id,
        user: &upload.user,
        title: &upload.title,
        verdict: if reason.is_some() {
            "blocked"
        } else {
            "cleared"
        },
        reason,
    };
    metrics::counter_add(verdict.verdict, 1);
    let json = serde_json::to_vec(&verdict)?;
    out.emit(
        worker.verdicts,
        &NewRecord::new(&json).with_key(upload.id.as_bytes()),
    )
}
