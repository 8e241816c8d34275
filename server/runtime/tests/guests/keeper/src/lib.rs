//! A guest that does with its state and its timers what a record's value tells it, and emits what it
//! found, and which timers have fired.

use std::process::abort;

use millstream_plugin::timers::{self, Clock, Timer};
use millstream_plugin::{Context, Failure, NewRecord, Output, Outputs, Record, state};

struct Keeper {
    found: Output,
}

fn init(context: &Context) -> Result<Keeper, Box<dyn std::error::Error>> {
    if let Some(key) = context.config("read") {
        let value = state::get(key.as_bytes())?.unwrap_or_default();
        return Err(String::from_utf8(value)?.into());
    }
    if context.config("write").is_some() {
        state::put(b"from", b"init")?;
    }
    let found = context.output("found")?;
    Ok(Keeper { found })
}

/// A command and its arguments, between spaces.
#[millstream_plugin::handler(init = init, timer = on_timer)]
fn handle(keeper: &mut Keeper, record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
    let command = str::from_utf8(record.value().unwrap_or_default())?;
    let words: Vec<_> = command.split(' ').collect();
    let found = match words[..] {
        ["get", key] => state::get(key.as_bytes())?,
        ["put", key, value] => {
            state::put(key.as_bytes(), value.as_bytes())?;
            None
        }
        ["delete", key] => {
            state::delete(key.as_bytes())?;
            None
        }
        ["scan", prefix] => Some(scan(prefix)?),
        // A counter for each of ten thousand keys, over and over.
        ["count", times] => {
            for number in 0..times.parse()? {
                count(number % 10_000)?;
            }
            None
        }
        ["put-bytes", key_bytes, value_bytes] => {
            let (key, value) = (
                vec![b'k'; key_bytes.parse()?],
                vec![b'v'; value_bytes.parse()?],
            );
            state::put(&key, &value)?;
            None
        }
        // Values of a megabyte under so many keys.
        ["fill", keys] => {
            let value = vec![b'v'; state::MAX_VALUE_BYTES];
            for key in 0..keys.parse::<u8>()? {
                state::put(&[key], &value)?;
            }
            None
        }
        ["scan-key-bytes", key_bytes] => {
            let prefix = vec![b'k'; key_bytes.parse()?];
            state::scan(&prefix)
                .next()
                .transpose()?
                .map(|entry| entry.key)
        }
        ["set", clock, key, at_ms] => {
            timers::set(clock_of(clock)?, key.as_bytes(), at_ms.parse()?)?;
            None
        }
        ["cancel", clock, key] => {
            timers::cancel(clock_of(clock)?, key.as_bytes())?;
            None
        }
        ["set-key-bytes", key_bytes] => {
            timers::set(Clock::WallTime, &vec![b'k'; key_bytes.parse()?], 0)?;
            None
        }
        ["set-many", timers] => {
            for number in 0..timers.parse::<u32>()? {
                timers::set(Clock::WallTime, &number.to_be_bytes(), 0)?;
            }
            None
        }
        ["panic"] => abort(),
        ["abort"] => return Err(Failure::abort("as told")),
        ["reject"] => return Err(Failure::reject("as told")),
        ["emit-twice"] => {
            out.emit(keeper.found, &NewRecord::new(b"once"))?;
            Some(b"twice".to_vec())
        }
        _ => return Err(Failure::abort("no such command")),
    };
    match found {
        Some(found) => out.emit(keeper.found, &NewRecord::new(&found)),
        None => Ok(()),
    }
}

fn clock_of(word: &str) -> Result<Clock, Failure> {
    match word {
        "record" => Ok(Clock::RecordTime),
        "wall" => Ok(Clock::WallTime),
        _ => Err(Failure::reject("no such clock")),
    }
}

/// A timer's key is a command as well.
fn on_timer(keeper: &mut Keeper, timer: Timer<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
    let key = str::from_utf8(timer.key())?;
    match key {
        "reject" => return Err(Failure::reject("as told")),
        "panic" => abort(),
        "again" => timers::set(timer.clock(), timer.key(), timer.at_ms() + 1)?,
        key => state::put(key.as_bytes(), b"fired")?,
    }
    let found = format!("{:?} {key} {}", timer.clock(), timer.at_ms());
    out.emit(keeper.found, &NewRecord::new(found.as_bytes()))
}

fn count(number: u32) -> Result<(), Failure> {
    let key = number.to_be_bytes();
    let count = match state::get(&key)? {
        Some(count) => u64::from_be_bytes(count.as_slice().try_into()?),
        None => 0,
    };
    Ok(state::put(&key, &(count + 1).to_be_bytes())?)
}

/// `a=1,b=2`.
fn scan(prefix: &str) -> Result<Vec<u8>, Failure> {
    let mut found = Vec::new();
    for entry in state::scan(prefix.as_bytes()) {
        let entry = entry?;
        found.extend([&entry.key[..], b"=", &entry.value, b","].concat());
    }
    found.pop();
    Ok(found)
}
