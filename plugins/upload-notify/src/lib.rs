//! Tells users what becomes of their uploads: the last of three plugins that react to one event.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write;

use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, log};
use serde::{Deserialize, Serialize};

/// One worker.
pub struct UploadNotify {
    notifications: Output,
}

/// What an upload's event and its verdict have in common, and what only a verdict has.
#[derive(Deserialize)]
struct News<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    title: Cow<'a, str>,
    verdict: Option<Verdict>,
    #[serde(borrow)]
    reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Cleared,
    Blocked,
}

#[derive(Serialize)]
struct Notification<'a> {
    user: &'a str,
    upload: &'a str,
    message: &'a str,
}

/// Looks up the output `notifications`.
pub fn init(context: &Context) -> Result<UploadNotify, Box<dyn Error>> {
    let notifications = context.output("notifications")?;
    log::info(format_args!("tells what comes from {}", context.topic()));
    Ok(UploadNotify { notifications })
}

/// Emits a notification for the user.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut UploadNotify,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let value = record
        .value()
        .ok_or_else(|| Failure::reject("the record has no value"))?;
    let news: News<'_> = serde_json::from_slice(value)?;
    let title = &news.title;
    let mut message = match news.verdict {
        None => format!("We have received “{title}” and are looking at it."),
        Some(Verdict::Cleared) => format!("“{title}” is published."),
        Some(Verdict::Blocked) => format!("“{title}” cannot be published"),
    };
    if let Some(Verdict::Blocked) = news.verdict {
        match &news.reason {
            Some(reason) => write!(message, ": {reason}.")?,
            None => message.push('.'),
        }
    }
    let json = serde_json::to_vec(&Notification {
        user: &news.user,
        upload: &news.id,
        message: &message,
    })?;
    out.emit(
        worker.notifications,
        &NewRecord::new(&json).with_key(news.user.as_bytes()),
    )
}
