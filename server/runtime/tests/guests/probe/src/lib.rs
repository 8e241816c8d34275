//! A guest that does what a record's value tells it, and emits what it found.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::{Duration, SystemTime};

use millstream_plugin::{
    Context, Failure, NewRecord, Output, Outputs, Record, log, metrics, secrets,
};

struct Probe {
    context: Context,
    found: Output,
}

fn init(context: &Context) -> Result<Probe, String> {
    if let Some(reason) = context.config("refuse") {
        return Err(reason.to_owned());
    }
    let found = context.output("found").map_err(|error| error.to_string())?;
    Ok(Probe {
        context: context.clone(),
        found,
    })
}

#[millstream_plugin::handler(init = init)]
fn handle(probe: &mut Probe, record: Record<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
    let command = str::from_utf8(record.value().unwrap_or_default())?;
    // What a plugin should not do with a secret.
    let slip = || format!("it is {}", secrets::get("api-key").unwrap_or_default());
    let found = match command {
        "context" => format!(
            "{} {} {} {:?} {:?}",
            probe.context.deployment(),
            probe.context.topic(),
            probe.context.partition(),
            probe.context.outputs(),
            probe.context.config("color"),
        ),
        "clock" => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_millis()
            .to_string(),
        "sleep" => {
            thread::sleep(Duration::from_secs(3_600));
            "awake".to_owned()
        }
        "random" => RandomState::new().build_hasher().finish().to_string(),
        "surroundings" => format!(
            "{} arguments, {} variables, {:?}, {} from stdin",
            std::env::args().count(),
            std::env::vars().count(),
            File::open("/etc/passwd")
                .map(|_| ())
                .map_err(|error| error.kind()),
            io::copy(&mut io::stdin(), &mut io::sink())?,
        ),
        "network" => {
            let refused = |outcome: io::Result<()>| match outcome {
                Ok(()) => "done",
                Err(_) => "refused",
            };
            format!(
                "connecting: {}, listening: {}, sending: {}, looking up: {}",
                refused(TcpStream::connect("127.0.0.1:9").map(drop)),
                refused(TcpListener::bind("127.0.0.1:0").map(drop)),
                refused(UdpSocket::bind("127.0.0.1:0").map(drop)),
                refused("localhost:9".to_socket_addrs().map(drop)),
            )
        }
        "print" => {
            println!("one\ntwo");
            print!("three");
            io::stdout().flush()?;
            eprintln!("four\u{1b}");
            "printed".to_owned()
        }
        "log" => {
            log::warn("logged");
            "logged".to_owned()
        }
        "measure" => {
            metrics::counter_add("measured", 2);
            metrics::gauge_set("offset", record.offset() as f64);
            "measured".to_owned()
        }
        "mismeasure" => {
            metrics::counter_add("no such\nname", 1);
            metrics::gauge_set("nowhere", f64::NAN);
            "mismeasured".to_owned()
        }
        "secret" => secrets::get("api-key").unwrap_or_else(|| "none".to_owned()),
        "another secret" => secrets::get("token").unwrap_or_else(|| "none".to_owned()),
        "log secret" => {
            log::warn(&slip());
            println!("{}", slip());
            "logged".to_owned()
        }
        "reject secret" => return Err(Failure::reject(slip())),
        "retry secret" => return Err(Failure::retry(Duration::ZERO, slip())),
        "abort secret" => return Err(Failure::abort(slip())),
        "panic secret" => panic!("{}", slip()),
        "panic" => panic!("as told"),
        "exit" => std::process::exit(3),
        "abort" => return Err(Failure::abort("as told")),
        "reject" => return Err(Failure::reject("as told")),
        "retry" => return Err(Failure::retry(Duration::from_millis(1_500), "as told")),
        "forward" => return out.emit(probe.found, &NewRecord::of(&record)),
        _ => return Ok(()),
    };
    out.emit(probe.found, &NewRecord::new(found.as_bytes()))
}
