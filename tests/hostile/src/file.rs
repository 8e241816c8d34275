//! How a component's file is read: a header of comments, then parts.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use millstream_protocol::api::grants::Grants;
use millstream_protocol::api::plugin::WorkerLimits;

use crate::{Case, Must};

/// The parts of a file, by name; `uses` among them, from the header.
pub(crate) type Parts = BTreeMap<String, String>;

/// Time for one call, milliseconds: an endless one is to be over soon.
const DEADLINE_MS: u32 = 100;

/// Names of parts, so that none is misspelled.
const PARTS: &[&str] = &[
    "bytes",
    "component",
    "core",
    "data",
    "exports",
    "handle",
    "host",
    "imports",
    "init",
    "interfaces",
    "libc",
    "pad",
    "post-return",
    "takes",
];

/// Reads a file.
pub(crate) fn read(path: &Path) -> Case {
    let name = path.file_stem().and_then(|name| name.to_str());
    let name = name.expect("a name in UTF-8").to_owned();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (header, body) = text.split_once("\n;;; ").unwrap_or((text.as_str(), ""));
    let mut case = Case {
        does: String::new(),
        must: Must::GoOn(String::new()),
        limits: WorkerLimits {
            deadline_ms: DEADLINE_MS,
            ..WorkerLimits::default()
        },
        grants: Grants::default(),
        tables: Vec::new(),
        parts: Parts::new(),
        name,
    };
    let mut must = None;
    for line in header.lines().filter_map(|line| line.strip_prefix(";; ")) {
        match line.split_once(':').map(|(key, value)| (key, value.trim())) {
            Some(("must be refused", said)) => must = Some(Must::BeRefused(said.to_owned())),
            Some(("must not compile", "")) => must = Some(Must::NotCompile),
            Some(("must not start", said)) => must = Some(Must::NotStart(said.to_owned())),
            Some(("must fail", said)) => must = Some(Must::Fail(said.to_owned())),
            Some(("must go on", said)) => must = Some(Must::GoOn(said.to_owned())),
            Some(("limits", limits)) => set_limits(&case.name, &mut case.limits, limits),
            Some(("granted secrets", names)) => {
                case.grants.secrets = names.split(", ").map(str::to_owned).collect();
            }
            Some(("tables", names)) => {
                case.tables = names.split(", ").map(str::to_owned).collect();
            }
            Some(("granted hosts", hosts)) => {
                let hosts = hosts.split(", ").map(|host| host.parse().expect("a host"));
                case.grants.http = hosts.collect();
            }
            Some(("uses", names)) => {
                case.parts.insert("uses".to_owned(), names.to_owned());
            }
            _ => {
                let space = if case.does.is_empty() { "" } else { " " };
                case.does = format!("{}{space}{line}", case.does);
            }
        }
    }
    assert!(!case.does.is_empty(), "{}: what does it do?", case.name);
    case.must = must.unwrap_or_else(|| panic!("{}: what must happen?", case.name));
    for part in body.split("\n;;; ").filter(|part| !part.is_empty()) {
        let (name, text) = part.split_once('\n').unwrap_or((part, ""));
        assert!(
            PARTS.contains(&name),
            "{}: no part is called {name}",
            case.name
        );
        case.parts.insert(name.to_owned(), expand(text));
    }
    case
}

/// Reads `memory-bytes 65536, deadline-ms 5000`.
fn set_limits(case: &str, limits: &mut WorkerLimits, text: &str) {
    for limit in text.split(", ") {
        let (name, value) = limit.split_once(' ').expect("a limit and its value");
        let value: u32 = value
            .parse()
            .unwrap_or_else(|_| panic!("{case}: {value} is no number"));
        match name {
            "memory-bytes" => limits.memory_bytes = value.into(),
            "deadline-ms" => limits.deadline_ms = value,
            "outputs-per-record" => limits.outputs_per_record = value,
            _ => panic!("{case}: no limit is called {name}"),
        }
    }
}

/// Writes what `@(90000 a)` and `@repeat` lines stand for.
fn expand(text: &str) -> String {
    let mut expanded = String::with_capacity(text.len());
    for line in text.lines() {
        let line = &expand_within(line);
        match line.trim_start().strip_prefix("@repeat ") {
            Some(repeat) => {
                let (times, line) = repeat.split_once(' ').expect("a count, and what to repeat");
                for number in 0..times.parse::<u64>().expect("a count") {
                    let next = (number + 1).to_string();
                    let line = line.replace("{n}", &number.to_string());
                    expanded.push_str(&line.replace("{n+1}", &next));
                    expanded.push('\n');
                }
            }
            None => {
                expanded.push_str(line);
                expanded.push('\n');
            }
        }
    }
    expanded
}

fn expand_within(line: &str) -> String {
    let Some((before, repeat)) = line.split_once("@(") else {
        return line.to_owned();
    };
    let (repeat, behind) = repeat.split_once(')').expect("its end");
    let (times, text) = repeat.split_once(' ').expect("a count, and what to repeat");
    let repeated = text.repeat(times.parse().expect("a count"));
    format!("{before}{repeated}{}", expand_within(behind))
}
