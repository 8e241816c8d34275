//! Whether a component fits one of the worlds, and if not, by name why.

use wasmtime::Engine;
use wasmtime::component::types::{
    self, Case, ComponentExtern, ComponentFunc, ComponentItem, Field,
};
use wasmtime::component::{Component, InstancePre, Linker, Type};

use crate::compiler::CompileError;
use crate::grants::Lack;
use crate::host::HostState;
use crate::logs::escape;

/// A name or type of a component, as far as a refusal repeats it, bytes.
const MAX_TOLD_BYTES: usize = 4 * 1024;

/// The interfaces that the host serves, and their versions.
const SERVED: &[(&str, &str)] = &[
    ("millstream:plugin/metrics", "0.1.0"),
    // To those who are granted one.
    ("millstream:plugin/secrets", "0.1.0"),
    ("millstream:plugin/state", "0.1.0"),
    // To those whose deployment names one.
    ("millstream:plugin/tables", "0.1.0"),
    ("millstream:plugin/timers", "0.1.0"),
    ("wasi:logging/logging", "0.1.0-draft"),
    ("wasi:config/store", "0.2.0-rc.1"),
    ("wasi:messaging/types", "0.2.0-draft"),
    ("wasi:messaging/producer", "0.2.0-draft"),
    // To those who are granted a host.
    ("wasi:http/outgoing-handler", WASI),
    ("wasi:http/types", WASI),
    ("wasi:cli/environment", WASI),
    ("wasi:cli/exit", WASI),
    ("wasi:cli/stdin", WASI),
    ("wasi:cli/stdout", WASI),
    ("wasi:cli/stderr", WASI),
    ("wasi:cli/terminal-input", WASI),
    ("wasi:cli/terminal-output", WASI),
    ("wasi:cli/terminal-stdin", WASI),
    ("wasi:cli/terminal-stdout", WASI),
    ("wasi:cli/terminal-stderr", WASI),
    ("wasi:clocks/monotonic-clock", WASI),
    ("wasi:clocks/wall-clock", WASI),
    ("wasi:filesystem/preopens", WASI),
    ("wasi:filesystem/types", WASI),
    ("wasi:io/error", WASI),
    ("wasi:io/poll", WASI),
    ("wasi:io/streams", WASI),
    ("wasi:random/insecure", WASI),
    ("wasi:random/insecure-seed", WASI),
    ("wasi:random/random", WASI),
    ("wasi:sockets/instance-network", WASI),
    ("wasi:sockets/ip-name-lookup", WASI),
    ("wasi:sockets/network", WASI),
    ("wasi:sockets/tcp", WASI),
    ("wasi:sockets/tcp-create-socket", WASI),
    ("wasi:sockets/udp", WASI),
    ("wasi:sockets/udp-create-socket", WASI),
];

/// WASI 0.2, whatever its last number.
const WASI: &str = "0.2.0";

/// A function that the host calls.
struct Called {
    interface: &'static str,
    version: &'static str,
    function: &'static str,
    /// As [`signature`] writes it.
    signature: &'static str,
}

const INIT: Called = Called {
    interface: "millstream:plugin/lifecycle",
    version: "0.1.0",
    function: "init",
    signature: "func(record { deployment: string, topic: string, partition: u32, outputs: list<string> }) \
                -> result<_, string>",
};

const HANDLE_BATCHES: Called = Called {
    interface: "millstream:plugin/batch-handler",
    version: "0.1.0",
    function: "handle",
    signature: "func(list<u8>) -> result<list<u8>, string>",
};

const HANDLE_RECORDS: Called = Called {
    interface: "millstream:plugin/record-handler",
    version: "0.1.0",
    function: "handle",
    signature: "func(list<record { offset: u64, timestamp-ms: s64, key: option<list<u8>>, \
                value: option<list<u8>>, \
                headers: list<record { name: string, value: option<list<u8>> }> }>) \
                -> result<list<variant { emit(list<record { output: u32, timestamp-ms: option<s64>, \
                key: option<list<u8>>, value: option<list<u8>>, \
                headers: list<record { name: string, value: option<list<u8>> }> }>), drop, \
                reject(string), retry(record { after-ms: u32, reason: string }) }>, string>",
};

/// What is imported by a component that sets timers.
const TIMERS: &str = "millstream:plugin/timers";

const HANDLE_TIMERS: Called = Called {
    interface: "millstream:plugin/timer-handler",
    version: "0.1.0",
    function: "handle",
    signature: "func(list<record { clock: enum { record-time, wall-time }, key: list<u8>, \
                at-ms: s64 }>) -> result<list<u8>, string>",
};

const HANDLE_RECORD_TIMERS: Called = Called {
    interface: "millstream:plugin/record-timer-handler",
    version: "0.1.0",
    function: "handle",
    signature: "func(list<record { clock: enum { record-time, wall-time }, key: list<u8>, \
                at-ms: s64 }>) \
                -> result<list<variant { emit(list<record { output: u32, timestamp-ms: option<s64>, \
                key: option<list<u8>>, value: option<list<u8>>, \
                headers: list<record { name: string, value: option<list<u8>> }> }>), drop, \
                reject(string), retry(record { after-ms: u32, reason: string }) }>, string>",
};

const MIGRATE: Called = Called {
    interface: "millstream:plugin/state-migration",
    version: "0.1.0",
    function: "migrate",
    signature: "func(string, option<list<u8>>) -> result<option<list<u8>>, string>",
};

/// What is imported by a component that sends messages.
const PRODUCER: &str = "wasi:messaging/producer";

const HANDLE_MESSAGE: Called = Called {
    interface: "wasi:messaging/incoming-handler",
    version: "0.2.0-draft",
    function: "handle",
    signature: "func(own<_>) -> result<_, variant { timeout, connection(string), \
                permission-denied(string), other(string) }>",
};

/// Which of the handlers a component has: of records, or of timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandlerKind {
    /// Outcomes are flat bytes: `batch-handler`, `timer-handler`.
    Batch,
    /// They are typed: `record-handler`, `record-timer-handler`.
    Record,
    /// `wasi:messaging/incoming-handler`: a message at a time, and no `init`.
    Message,
}

/// What a component is found to be by its names.
pub(crate) struct Fit {
    /// The interfaces that it imports, sorted.
    pub(crate) imports: Vec<String>,
    pub(crate) handler: HandlerKind,
    /// That of its timers, if it has one.
    pub(crate) timers: Option<HandlerKind>,
    /// Whether it takes over the state of other versions.
    pub(crate) migrates: bool,
}

/// Why a component was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedError {
    /// It is above the limit of [`RuntimeConfig`](crate::RuntimeConfig).
    #[error("the component has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// It is not WebAssembly.
    #[error("not a WebAssembly component: the first bytes are not those of one")]
    NotWasm,
    /// It is a core module, which has no interfaces.
    #[error(
        "a core WebAssembly module, not a component (Rust: build for the target wasm32-wasip2)"
    )]
    CoreModule,
    /// It is broken, or uses a feature that is not enabled.
    #[error("not a valid component: {reason}")]
    Invalid {
        /// What the compiler says.
        reason: String,
    },
    /// It needs something that is not served.
    #[error("the component imports `{import}`, {problem}")]
    Import {
        /// The import, with its version.
        import: String,
        /// What is wrong with it: the end of a sentence.
        problem: String,
    },
    /// It needs something that is served to deployments which have it among their settings.
    #[error("the component imports `{import}`, but the deployment {lack}")]
    Settings {
        /// The import, with its version.
        import: String,
        /// What is not among them.
        lack: Lack,
    },
    /// It does not have what is called.
    #[error("the component lacks the export `{export}`")]
    MissingExport {
        /// The export, with its version; of the handlers, either.
        export: String,
    },
    /// It can set timers, and has no function for them.
    #[error("the component imports `{import}`, but lacks the export `{export}`")]
    NoTimerHandler {
        /// The import, with its version.
        import: String,
        /// The export, with its version: either of the two handlers.
        export: String,
    },
    /// What it has is not what is called.
    #[error("the component exports `{export}`, {problem}")]
    Export {
        /// The export, with its version.
        export: String,
        /// What is wrong with it: the end of a sentence.
        problem: String,
    },
    /// It was not compiled.
    #[error("the component does not compile: {0}")]
    Compile(#[from] CompileError),
}

/// What is said of a component in its own words: a name or a type of it may have megabytes.
fn told(words: &str) -> String {
    escape(words, MAX_TOLD_BYTES)
}

/// Refuses what cannot be a component before a compiler looks at it.
pub(crate) fn check_preamble(bytes: &[u8]) -> Result<(), RefusedError> {
    match bytes.first_chunk::<8>() {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(RefusedError::CoreModule),
        _ => Err(RefusedError::NotWasm),
    }
}

/// Checks imports and exports by name and version.
pub(crate) fn check_names(engine: &Engine, component: &Component) -> Result<Fit, RefusedError> {
    let ty = component.component_type();
    let mut imports = Vec::new();
    for (import, item) in ty.imports(engine) {
        if let Some(problem) = import_problem(import, &item.ty) {
            return Err(RefusedError::Import {
                import: told(import),
                problem: told(&problem),
            });
        }
        imports.push(import.to_owned());
    }
    imports.sort_unstable();

    let sends = imports.iter().find(|it| split_version(it).0 == PRODUCER);
    let handler = match find_export(engine, &ty, &HANDLE_MESSAGE) {
        Some(_) => message_handler(engine, &ty)?,
        None => {
            if let Some(import) = sends {
                return Err(RefusedError::Import {
                    import: import.clone(),
                    problem: format!("but lacks the export `{}`", HANDLE_MESSAGE.export()),
                });
            }
            check_export(engine, &ty, &INIT)?;
            let handler = handler_kind(engine, &ty, [&HANDLE_BATCHES, &HANDLE_RECORDS])?;
            handler.ok_or_else(|| RefusedError::MissingExport {
                export: either(&HANDLE_BATCHES, &HANDLE_RECORDS),
            })?
        }
    };
    let timers = handler_kind(engine, &ty, [&HANDLE_TIMERS, &HANDLE_RECORD_TIMERS])?;
    let sets_timers = imports.iter().find(|it| split_version(it).0 == TIMERS);
    if let (Some(import), None) = (sets_timers, timers) {
        return Err(RefusedError::NoTimerHandler {
            import: import.clone(),
            export: either(&HANDLE_TIMERS, &HANDLE_RECORD_TIMERS),
        });
    }
    let migrates = find_export(engine, &ty, &MIGRATE).is_some();
    if migrates {
        check_export(engine, &ty, &MIGRATE)?;
    }
    Ok(Fit {
        imports,
        handler,
        timers,
        migrates,
    })
}

/// The handler of a component that exports one of messages: it has no other, because nothing but a
/// message can be answered with messages.
fn message_handler(engine: &Engine, ty: &types::Component) -> Result<HandlerKind, RefusedError> {
    check_export(engine, ty, &HANDLE_MESSAGE)?;
    let others = [
        &HANDLE_BATCHES,
        &HANDLE_RECORDS,
        &HANDLE_TIMERS,
        &HANDLE_RECORD_TIMERS,
    ];
    match others
        .iter()
        .find(|it| find_export(engine, ty, it).is_some())
    {
        None => Ok(HandlerKind::Message),
        Some(other) => Err(RefusedError::Export {
            export: HANDLE_MESSAGE.export(),
            problem: format!("but also `{}`: a component has one handler", other.export()),
        }),
    }
}

/// The one of two handlers that a component has, flat or typed, if any. It is checked.
fn handler_kind(
    engine: &Engine,
    ty: &types::Component,
    [flat, typed]: [&Called; 2],
) -> Result<Option<HandlerKind>, RefusedError> {
    let exported = |called| find_export(engine, ty, called).is_some();
    match (exported(flat), exported(typed)) {
        (true, false) => check_export(engine, ty, flat).map(|()| Some(HandlerKind::Batch)),
        (false, true) => check_export(engine, ty, typed).map(|()| Some(HandlerKind::Record)),
        (true, true) => Err(RefusedError::Export {
            export: typed.export(),
            problem: format!("but also `{}`: a component has one handler", flat.export()),
        }),
        (false, false) => Ok(None),
    }
}

/// Either of two exports, within quotation marks.
fn either(one: &Called, other: &Called) -> String {
    format!("{}` or `{}", one.export(), other.export())
}

impl Called {
    /// What is exported, with its version.
    fn export(&self) -> String {
        format!("{}@{}", self.interface, self.version)
    }
}

/// The export of this interface, whatever its version.
fn find_export<'a>(
    engine: &'a Engine,
    ty: &'a types::Component,
    called: &Called,
) -> Option<(&'a str, ComponentExtern<'a>)> {
    ty.exports(engine)
        .find(|(name, _)| split_version(name).0 == called.interface)
}

/// Refuses a component in which what is called is not there, or not as it is called.
fn check_export(
    engine: &Engine,
    ty: &types::Component,
    called: &Called,
) -> Result<(), RefusedError> {
    let Some((export, item)) = find_export(engine, ty, called) else {
        return Err(RefusedError::MissingExport {
            export: called.export(),
        });
    };
    match export_problem(engine, export, &item.ty, called) {
        None => Ok(()),
        Some(problem) => Err(RefusedError::Export {
            export: told(export),
            problem: told(&problem),
        }),
    }
}

/// What is wrong with an export, if anything.
fn export_problem(
    engine: &Engine,
    export: &str,
    item: &ComponentItem,
    called: &Called,
) -> Option<String> {
    let Called {
        interface,
        version,
        function,
        signature: expected,
    } = called;
    if !compatible(split_version(export).1, version) {
        return Some(format!("but this broker calls `{interface}@{version}`"));
    }
    let ComponentItem::ComponentInstance(instance) = item else {
        return Some("which is not an interface".into());
    };
    let Some(ComponentItem::ComponentFunc(exported)) =
        instance.get_export(engine, function).map(|item| item.ty)
    else {
        return Some(format!("which lacks the function `{function}`"));
    };
    let exported = signature(&exported);
    (exported != *expected)
        .then(|| format!("whose `{function}` is `{exported}`, but this broker calls `{expected}`"))
}

/// A function's type in WIT, without the names of its parameters.
fn signature(function: &ComponentFunc) -> String {
    let join = |types: Vec<String>| types.join(", ");
    let asynchronous = if function.async_() { "async " } else { "" };
    let params = join(function.params().map(|(_, ty)| wit(&ty)).collect());
    let results = join(function.results().map(|ty| wit(&ty)).collect());
    let arrow = if results.is_empty() { "" } else { " -> " };
    format!("{asynchronous}func({params}){arrow}{results}")
}

/// A type in WIT, as far as the functions that are called have it.
fn wit(ty: &Type) -> String {
    let optional = |ty: Option<Type>| ty.as_ref().map_or("_".to_owned(), wit);
    match ty {
        Type::U8 => "u8".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::S64 => "s64".into(),
        Type::String => "string".into(),
        Type::List(list) => format!("list<{}>", wit(&list.ty())),
        Type::Option(option) => format!("option<{}>", wit(&option.ty())),
        Type::Result(result) => match (result.ok(), result.err()) {
            (None, None) => "result".into(),
            (ok, None) => format!("result<{}>", optional(ok)),
            (ok, err) => format!("result<{}, {}>", optional(ok), optional(err)),
        },
        Type::Record(record) => {
            let field = |field: Field<'_>| format!("{}: {}", field.name, wit(&field.ty));
            format!(
                "record {{ {} }}",
                record.fields().map(field).collect::<Vec<_>>().join(", ")
            )
        }
        Type::Variant(variant) => {
            let case = |case: Case<'_>| match case.ty {
                Some(ty) => format!("{}({})", case.name, wit(&ty)),
                None => case.name.to_owned(),
            };
            format!(
                "variant {{ {} }}",
                variant.cases().map(case).collect::<Vec<_>>().join(", ")
            )
        }
        Type::Enum(cases) => {
            let cases: Vec<_> = cases.names().collect();
            format!("enum {{ {} }}", cases.join(", "))
        }
        Type::Own(_) => "own<_>".into(),
        _ => "(another type)".into(),
    }
}

/// Checks the types of imports, whose names are known to be right, and prepares for instances.
pub(crate) fn check_types(
    linker: &Linker<HostState>,
    component: &Component,
) -> Result<InstancePre<HostState>, RefusedError> {
    let (engine, ty) = (component.engine(), component.component_type());
    linker.instantiate_pre(component).map_err(|error| {
        let reason = format!("{error:#}");
        let import = ty
            .imports(engine)
            .map(|(name, _)| name)
            .find(|name| reason.contains(name));
        let problem = format!(
            "which differs from what this broker serves: {}",
            details(&error)
        );
        RefusedError::Import {
            import: told(import.unwrap_or("an interface")),
            problem: told(&problem),
        }
    })
}

/// What an error says, without the outermost sentence, which repeats the name.
fn details(error: &wasmtime::Error) -> String {
    let inner: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
    if inner.is_empty() {
        error.to_string()
    } else {
        inner.join(": ")
    }
}

/// What is wrong with an import, if anything.
fn import_problem(import: &str, item: &ComponentItem) -> Option<String> {
    let (interface, version) = split_version(import);
    let Some((_, served)) = SERVED.iter().find(|(name, _)| *name == interface) else {
        return Some("which is not granted".into());
    };
    if !compatible(version, served) {
        return Some(format!("but this broker serves `{interface}@{served}`"));
    }
    (!matches!(item, ComponentItem::ComponentInstance(_)))
        .then(|| "which is not an interface".into())
}

/// `wasi:io/poll@0.2.6` as `wasi:io/poll` and `0.2.6`.
pub(crate) fn split_version(name: &str) -> (&str, &str) {
    name.split_once('@').unwrap_or((name, ""))
}

/// Whether a version is compatible with the one served, by the rules of semantic versions: a
/// pre-release only with itself, 0.2.6 with 0.2.0, 1.2.3 with 1.0.0.
fn compatible(version: &str, served: &str) -> bool {
    fn release(version: &str) -> Option<[u64; 3]> {
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        let parsed = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(parsed)
    }
    match (release(version), release(served)) {
        (Some([0, 0, _]), Some([0, 0, _])) => version == served,
        (Some([0, minor, _]), Some([0, served, _])) => minor == served,
        (Some([major, ..]), Some([served, ..])) => major == served && major != 0,
        _ => version == served,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_semantic_versions() {
        let check = |version, served, expect| {
            assert_eq!(compatible(version, served), expect, "{version} {served}")
        };
        check("0.2.6", "0.2.0", true);
        check("0.3.0", "0.2.0", false);
        check("1.2.0", "0.2.0", false);
        check("1.2.3", "1.0.0", true);
        check("0.0.1", "0.0.2", false);
        check("0.2.0-rc.1", "0.2.0-rc.1", true);
        check("0.2.0-draft", "0.2.0-rc.1", false);
        check("0.2.0", "0.2.0-rc.1", false);
        check("", "0.2.0", false);
    }

    #[test]
    fn what_is_not_a_component_is_told_apart() {
        assert_eq!(check_preamble(b"\0asm\x0d\0\x01\0"), Ok(()));
        assert_eq!(
            check_preamble(b"\0asm\x01\0\0\0"),
            Err(RefusedError::CoreModule)
        );
        assert_eq!(check_preamble(b"#!/bin/sh\n"), Err(RefusedError::NotWasm));
        assert_eq!(check_preamble(b"\0asm"), Err(RefusedError::NotWasm));
    }
}
