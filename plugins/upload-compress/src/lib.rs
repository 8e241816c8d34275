//! Compresses what is uploaded: the first of three plugins that react to one event.

use std::borrow::Cow;
use std::error::Error;

use millstream_plugin::{
    Context, Failure, Header, NewRecord, Output, Outputs, Record, log, metrics,
};
use serde::Deserialize;

/// Of the levels 0 to 10, the one whose next costs twice the time for a few percent.
const LEVEL: u8 = 6;

/// How a compressed file's value is encoded (RFC 9110, 8.4.1.2: zlib).
const ENCODING: &str = "deflate";

/// One worker.
pub struct UploadCompress {
    compressed: Output,
}

/// An upload, as its event tells.
#[derive(Deserialize)]
struct Upload<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    #[serde(borrow)]
    title: Cow<'a, str>,
    #[serde(borrow)]
    license: Option<Cow<'a, str>>,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

/// Looks up the output `compressed`.
pub fn init(context: &Context) -> Result<UploadCompress, Box<dyn Error>> {
    let compressed = context.output("compressed")?;
    log::info(format_args!("compresses as {ENCODING}"));
    Ok(UploadCompress { compressed })
}

/// Emits the upload's content, compressed, with what else is known of it as headers.
#[millstream_plugin::handler(init = init)]
pub fn handle(
    worker: &mut UploadCompress,
    record: Record<'_>,
    out: &mut Outputs<'_>,
) -> Result<(), Failure> {
    let value = record
        .value()
        .ok_or_else(|| Failure::reject("the record has no value"))?;
    let upload: Upload<'_> = serde_json::from_slice(value)?;
    let content = upload.content.as_bytes();
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(content, LEVEL);
    let bytes = content.len().to_string();
    let header = |name, value| Header {
        name,
        value: Some(value),
    };
    let mut headers = vec![
        header("content-encoding", ENCODING.as_bytes()),
        header("bytes", bytes.as_bytes()),
        header("user", upload.user.as_bytes()),
        header("title", upload.title.as_bytes()),
    ];
    if let Some(license) = &upload.license {
        headers.push(header("license", license.as_bytes()));
    }
    let file = NewRecord::new(&compressed)
        .with_key(upload.id.as_bytes())
        .with_headers(&headers);
    out.emit(worker.compressed, &file)?;
    metrics::counter_add("bytes_in", content.len() as u64);
    metrics::counter_add("bytes_out", compressed.len() as u64);
    Ok(())
}
