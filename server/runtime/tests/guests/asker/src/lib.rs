//! A guest that asks servers what a record's value tells it to, and emits what they say.
//!
//! | value | what happens |
//! |---|---|
//! | `get URL` | the status and the body are emitted; an error fails the record as the SDK has it |
//! | `post URL body` | the same, of a request with a body and the header `x-offset` |
//! | `send n URL` | as `told`, of a request with a body of n bytes |
//! | `told URL` | the error in words is emitted in place of a response |
//! | `hurry URL` | as `get`, and the guest waits for 50 ms only |
//! | `impatient URL` | as `told`, likewise |
//! | `size URL` | how many bytes the body has is emitted |
//! | `method NAME` | whether a request may have a method of so many letters is emitted, as `told` |
//! | `many n URL` | n requests one after the other; how many were answered is emitted, and the last error |
//! | anything else | it is emitted |
//!
//! With the configuration `ask` it asks that URL in `init`.

use std::error::Error;
use std::time::Duration;

use millstream_plugin::http::{self, HttpError, Request, Response};
use millstream_plugin::{Context, Failure, NewRecord, Outputs, Record};

fn init(context: &Context) -> Result<(), Box<dyn Error>> {
    if let Some(url) = context.config("ask") {
        http::get(url)?;
    }
    Ok(())
}

#[millstream_plugin::handler(init = init)]
fn handle(_: &mut (), record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
    let value = str::from_utf8(record.value().unwrap_or_default())?;
    let (command, argument) = value.split_once(' ').unwrap_or((value, ""));
    let found = match command {
        "get" => told(&http::get(argument)?),
        "post" => {
            let (url, body) = argument.split_once(' ').unwrap_or((argument, ""));
            let request = Request::post(url)
                .header("x-offset", record.offset().to_string())
                .body(body);
            told(&request.send()?.successful()?)
        }
        "hurry" => told(&hurried(argument).send()?),
        "send" => {
            let (bytes, url) = argument.split_once(' ').unwrap_or_default();
            either(Request::post(url).body(vec![b'x'; bytes.parse()?]))
        }
        "told" => either(Request::get(argument)),
        "impatient" => either(hurried(argument)),
        "size" => http::get(argument)?.body().len().to_string(),
        "method" => {
            let letters = "A".repeat(argument.parse()?);
            either(Request::new(letters, "https://nobody.test"))
        }
        "many" => {
            let (count, url) = argument.split_once(' ').unwrap_or_default();
            many(count.parse()?, url)
        }
        _ => value.to_owned(),
    };
    let output = out.output("found")?;
    out.emit(output, &NewRecord::new(found.as_bytes()))
}

fn hurried(url: &str) -> Request {
    Request::get(url).timeout(Duration::from_millis(50))
}

fn told(response: &Response) -> String {
    let body = String::from_utf8_lossy(response.body());
    format!("{} {body}", response.status())
}

fn either(request: Request) -> String {
    match request.send() {
        Ok(response) => told(&response),
        Err(error) => error.to_string(),
    }
}

fn many(count: u32, url: &str) -> String {
    let mut answered = 0;
    let mut last: Option<HttpError> = None;
    for _ in 0..count {
        match http::get(url) {
            Ok(_) => answered += 1,
            Err(error) => last = Some(error),
        }
    }
    let last = last.map_or_else(String::new, |error| format!(", then {error}"));
    format!("{answered} answered{last}")
}
