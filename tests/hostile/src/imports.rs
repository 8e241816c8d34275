//! Functions of the host that a file may ask for by name (`uses: log, random`).

/// One function.
pub(crate) struct Import {
    /// What the file calls it, and the guest: `(call $random …)`.
    pub(crate) name: &'static str,
    /// The interface, as the component imports it.
    pub(crate) interface: &'static str,
    /// How it is lowered to a function of core WebAssembly, which is called `$'name`.
    pub(crate) lower: &'static str,
    /// Its type there.
    pub(crate) core: &'static str,
}

/// The import of this name.
pub(crate) fn find(name: &str) -> &'static Import {
    let import = IMPORTS.iter().find(|import| import.name == name);
    import.unwrap_or_else(|| panic!("no import is called {name}"))
}

const LOGGING: &str = r#"(import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))"#;

const CONFIG: &str = r#"(import "wasi:config/store@0.2.0-rc.1" (instance $config
    (type $error' (variant (case "upstream" string) (case "io" string)))
    (export "error" (type $error (eq $error')))
    (export "get-all" (func (result (result (list (tuple string string)) (error $error)))))))"#;

const STATE: &str = r#"(import "millstream:plugin/state@0.1.0" (instance $state
    (type $error' (variant (case "too-large" string) (case "quota-exceeded" string) (case "read-only")))
    (export "error" (type $error (eq $error')))
    (type $entry' (record (field "key" (list u8)) (field "value" (list u8))))
    (export "entry" (type $entry (eq $entry')))
    (type $page' (record (field "entries" (list $entry)) (field "more" bool)))
    (export "page" (type $page (eq $page')))
    (export "get" (func (param "key" (list u8)) (result (result (option (list u8)) (error $error)))))
    (export "put" (func (param "key" (list u8)) (param "value" (list u8)) (result (result (error $error)))))
    (export "scan" (func (param "prefix" (list u8)) (param "after" (option (list u8))) (param "limit" u32)
        (result (result $page (error $error)))))))"#;

const METRICS: &str = r#"(import "millstream:plugin/metrics@0.1.0" (instance $metrics
    (export "counter-add" (func (param "name" string) (param "delta" u64)))))"#;

const SECRETS: &str = r#"(import "millstream:plugin/secrets@0.1.0" (instance $secrets
    (export "get" (func (param "name" string) (result (option string))))))"#;

const TABLES: &str = r#"(import "millstream:plugin/tables@0.1.0" (instance $tables
    (type $error' (variant (case "no-such-table" string) (case "too-large" string)))
    (export "error" (type $error (eq $error')))
    (export "names" (func (result (list string))))
    (export "get" (func (param "table" string) (param "key" (list u8))
        (result (result (option (list u8)) (error $error)))))))"#;

const TIMERS: &str = r#"(import "millstream:plugin/timers@0.1.0" (instance $timers
    (type $clock' (enum "record-time" "wall-time"))
    (export "clock" (type $clock (eq $clock')))
    (type $error' (variant (case "too-large" string) (case "quota-exceeded" string) (case "read-only")))
    (export "error" (type $error (eq $error')))
    (export "set" (func (param "clock" $clock) (param "key" (list u8)) (param "at-ms" s64)
        (result (result (error $error)))))))
(alias export $timers "clock" (type $clock))"#;

const MESSAGES: &str = r#"(import "wasi:messaging/types@0.2.0-draft" (instance $messages
    (type $error' (variant (case "timeout") (case "connection" string) (case "permission-denied" string)
        (case "other" string)))
    (export "error" (type $error (eq $error')))
    (export "message" (type $message (sub resource)))
    (export "[constructor]message" (func (param "data" (list u8)) (result (own $message))))))
(alias export $messages "error" (type $messaging-error))
(alias export $messages "message" (type $message))"#;

const RANDOM: &str = r#"(import "wasi:random/random@0.2.6" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#;

const WALL_CLOCK: &str = r#"(import "wasi:clocks/wall-clock@0.2.6" (instance $wall-clock
    (type $datetime' (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $datetime')))
    (export "now" (func (result $datetime)))))"#;

const POLL: &str = r#"(import "wasi:io/poll@0.2.6" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "poll" (func (param "in" (list (borrow $pollable))) (result (list u32))))))
(alias export $poll "pollable" (type $pollable))"#;

const MONOTONIC_CLOCK: &str = r#"(import "wasi:clocks/monotonic-clock@0.2.6" (instance $monotonic-clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))"#;

const STREAMS: &str = r#"(import "wasi:io/error@0.2.6" (instance $io-error (export "error" (type (sub resource)))))
(alias export $io-error "error" (type $io-error))
(import "wasi:io/streams@0.2.6" (instance $streams
    (alias outer 1 $io-error (type $outer))
    (export "error" (type $error (eq $outer)))
    (export "input-stream" (type $input (sub resource)))
    (export "output-stream" (type $output (sub resource)))
    (type $stream-error' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error')))
    (export "[method]input-stream.blocking-read" (func (param "self" (borrow $input)) (param "len" u64)
        (result (result (list u8) (error $stream-error)))))
    (export "[method]output-stream.write" (func (param "self" (borrow $output)) (param "contents" (list u8))
        (result (result (error $stream-error)))))
    (export "[method]output-stream.blocking-write-zeroes-and-flush"
        (func (param "self" (borrow $output)) (param "len" u64) (result (result (error $stream-error)))))))
(alias export $streams "input-stream" (type $input-stream))
(alias export $streams "output-stream" (type $output-stream))"#;

const STDIN: &str = r#"(import "wasi:cli/stdin@0.2.6" (instance $stdin
    (alias outer 1 $input-stream (type $outer))
    (export "input-stream" (type $stream (eq $outer)))
    (export "get-stdin" (func (result (own $stream))))))"#;

const STDOUT: &str = r#"(import "wasi:cli/stdout@0.2.6" (instance $stdout
    (alias outer 1 $output-stream (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "get-stdout" (func (result (own $stream))))))"#;

const EXIT: &str = r#"(import "wasi:cli/exit@0.2.6" (instance $exit
    (export "exit" (func (param "status" (result))))))"#;

/// The network, without which nothing is asked of it.
const NETWORK: &str = r#"(import "wasi:sockets/network@0.2.6" (instance $network-types
    (export "network" (type (sub resource)))
    (type $code (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory"
        "timeout" "concurrency-conflict" "not-in-progress" "would-block" "invalid-state"
        "new-socket-limit" "address-not-bindable" "address-in-use" "remote-unreachable"
        "connection-refused" "connection-reset" "connection-aborted" "datagram-too-large"
        "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type (eq $code)))
    (type $family (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $family)))))
(alias export $network-types "network" (type $network))
(alias export $network-types "error-code" (type $network-error))
(alias export $network-types "ip-address-family" (type $family))
(import "wasi:sockets/instance-network@0.2.6" (instance $instance-network
    (alias outer 1 $network (type $outer))
    (export "network" (type $network (eq $outer)))
    (export "instance-network" (func (result (own $network))))))"#;

const TCP: &str = r#"(import "wasi:sockets/tcp@0.2.6" (instance $tcp (export "tcp-socket" (type (sub resource)))))
(alias export $tcp "tcp-socket" (type $tcp-socket))
(import "wasi:sockets/tcp-create-socket@0.2.6" (instance $tcp-create-socket
    (alias outer 1 $network-error (type $error'))
    (export "error-code" (type $error (eq $error')))
    (alias outer 1 $family (type $family'))
    (export "ip-address-family" (type $family (eq $family')))
    (alias outer 1 $tcp-socket (type $socket'))
    (export "tcp-socket" (type $socket (eq $socket')))
    (export "create-tcp-socket" (func (param "address-family" $family)
        (result (result (own $socket) (error $error)))))))"#;

const UDP: &str = r#"(import "wasi:sockets/udp@0.2.6" (instance $udp (export "udp-socket" (type (sub resource)))))
(alias export $udp "udp-socket" (type $udp-socket))
(import "wasi:sockets/udp-create-socket@0.2.6" (instance $udp-create-socket
    (alias outer 1 $network-error (type $error'))
    (export "error-code" (type $error (eq $error')))
    (alias outer 1 $family (type $family'))
    (export "ip-address-family" (type $family (eq $family')))
    (alias outer 1 $udp-socket (type $socket'))
    (export "udp-socket" (type $socket (eq $socket')))
    (export "create-udp-socket" (func (param "address-family" $family)
        (result (result (own $socket) (error $error)))))))"#;

const NAMES: &str = r#"(import "wasi:sockets/ip-name-lookup@0.2.6" (instance $names
    (alias outer 1 $network (type $network'))
    (export "network" (type $network (eq $network')))
    (alias outer 1 $network-error (type $error'))
    (export "error-code" (type $error (eq $error')))
    (export "resolve-address-stream" (type $stream (sub resource)))
    (export "resolve-addresses" (func (param "network" (borrow $network)) (param "name" string)
        (result (result (own $stream) (error $error)))))))"#;

const HTTP: &str = r#"(import "wasi:http/types@0.2.6" (instance $http
    (alias outer 1 $output-stream (type $outer))
    (export "output-stream" (type $stream (eq $outer)))
    (export "fields" (type $fields (sub resource)))
    (export "outgoing-request" (type $request (sub resource)))
    (export "outgoing-body" (type $body (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
    (export "[method]outgoing-request.body" (func (param "self" (borrow $request)) (result (result (own $body)))))
    (export "[method]outgoing-body.write" (func (param "self" (borrow $body)) (result (result (own $stream)))))))"#;

/// What a guest may be given. A file names what an import leans on before it: `poll, subscribe`.
const IMPORTS: &[Import] = &[
    Import {
        name: "log",
        interface: LOGGING,
        lower: r#"(func $logging "log") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32 i32 i32 i32)",
    },
    Import {
        name: "config",
        interface: CONFIG,
        lower: r#"(func $config "get-all") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32)",
    },
    Import {
        name: "get",
        interface: STATE,
        lower: r#"(func $state "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32)",
    },
    Import {
        name: "put",
        interface: STATE,
        lower: r#"(func $state "put") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32 i32 i32)",
    },
    Import {
        name: "scan",
        interface: STATE,
        lower: r#"(func $state "scan") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32 i32 i32 i32 i32)",
    },
    Import {
        name: "count",
        interface: METRICS,
        lower: r#"(func $metrics "counter-add") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32 i64)",
    },
    Import {
        name: "secret",
        interface: SECRETS,
        lower: r#"(func $secrets "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32)",
    },
    Import {
        name: "find",
        interface: TABLES,
        lower: r#"(func $tables "get") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32 i32 i32)",
    },
    Import {
        name: "tables",
        interface: TABLES,
        lower: r#"(func $tables "names") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32)",
    },
    Import {
        name: "set-timer",
        interface: TIMERS,
        lower: r#"(func $timers "set") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32 i64 i32)",
    },
    Import {
        name: "message",
        interface: MESSAGES,
        lower: r#"(func $messages "[constructor]message") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32) (result i32)",
    },
    Import {
        name: "random",
        interface: RANDOM,
        lower: r#"(func $random "get-random-bytes") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i64 i32)",
    },
    Import {
        name: "wall-clock",
        interface: WALL_CLOCK,
        lower: r#"(func $wall-clock "now") (memory (core memory $libc "memory"))"#,
        core: "(param i32)",
    },
    Import {
        name: "poll",
        interface: POLL,
        lower: r#"(func $poll "poll") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i32 i32)",
    },
    Import {
        name: "block",
        interface: POLL,
        lower: r#"(func $poll "[method]pollable.block")"#,
        core: "(param i32)",
    },
    Import {
        name: "subscribe",
        interface: MONOTONIC_CLOCK,
        lower: r#"(func $monotonic-clock "subscribe-duration")"#,
        core: "(param i64) (result i32)",
    },
    Import {
        name: "read",
        interface: STREAMS,
        lower: r#"(func $streams "[method]input-stream.blocking-read") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))"#,
        core: "(param i32 i64 i32)",
    },
    Import {
        name: "write",
        interface: STREAMS,
        lower: r#"(func $streams "[method]output-stream.write") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32 i32 i32)",
    },
    Import {
        name: "write-zeroes",
        interface: STREAMS,
        lower: r#"(func $streams "[method]output-stream.blocking-write-zeroes-and-flush") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i64 i32)",
    },
    Import {
        name: "stdin",
        interface: STDIN,
        lower: r#"(func $stdin "get-stdin")"#,
        core: "(result i32)",
    },
    Import {
        name: "stdout",
        interface: STDOUT,
        lower: r#"(func $stdout "get-stdout")"#,
        core: "(result i32)",
    },
    Import {
        name: "exit",
        interface: EXIT,
        lower: r#"(func $exit "exit")"#,
        core: "(param i32)",
    },
    Import {
        name: "fields",
        interface: HTTP,
        lower: r#"(func $http "[constructor]fields")"#,
        core: "(result i32)",
    },
    Import {
        name: "request",
        interface: HTTP,
        lower: r#"(func $http "[constructor]outgoing-request")"#,
        core: "(param i32) (result i32)",
    },
    Import {
        name: "request-body",
        interface: HTTP,
        lower: r#"(func $http "[method]outgoing-request.body") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32)",
    },
    Import {
        name: "body-stream",
        interface: HTTP,
        lower: r#"(func $http "[method]outgoing-body.write") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32)",
    },
    Import {
        name: "network",
        interface: NETWORK,
        lower: r#"(func $instance-network "instance-network")"#,
        core: "(result i32)",
    },
    Import {
        name: "tcp",
        interface: TCP,
        lower: r#"(func $tcp-create-socket "create-tcp-socket") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32)",
    },
    Import {
        name: "udp",
        interface: UDP,
        lower: r#"(func $udp-create-socket "create-udp-socket") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32)",
    },
    Import {
        name: "look-up",
        interface: NAMES,
        lower: r#"(func $names "resolve-addresses") (memory (core memory $libc "memory"))"#,
        core: "(param i32 i32 i32 i32)",
    },
];
