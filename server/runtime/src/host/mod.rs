//! What a guest finds when it looks around: the host's side of every import.
//!
//! Unless more is granted, everything here is inert or bounded: no arguments, environment or files
//! exist, no socket can be made and no request sent; time stands still at the record's; randomness is a function of the
//! position; text goes to the log.
//!
//! # Layout
//!
//! - this file: the state behind one worker's store, and the linker
//! - `granted`: `wasi:logging` and `wasi:config`
//! - `state`, `timers`, `metrics`, `secrets`, `tables`: those of `millstream:plugin`
//! - `messaging`: `wasi:messaging`
//! - `clocks`, `random`, `stdio`: the parts of WASI that are ours
//! - `io`: how long `wasi:io` may wait
//! - `http`: `wasi:http`, and to whom it sends
//! - `quota`: how often all of it is called
//!
//! The rest of WASI (the streams of `wasi:io`, the empty command line and file system, the network that refuses
//! everything) is wasmtime-wasi's.

mod clocks;
mod granted;
mod http;
mod io;
mod messaging;
mod metrics;
mod quota;
mod random;
mod secrets;
mod state;
mod stdio;
mod tables;
mod timers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millstream_protocol::{Offset, TimestampMs};
use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtx, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::{
    cli, clocks as wasi_clocks, filesystem, random as wasi_random, sockets, sync,
};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtx, WasiSocketsCtxView};

use self::http::Http;
pub use self::http::{MAX_HTTP_REQUESTS_AT_ONCE, MAX_HTTP_REQUESTS_PER_CALL};
use self::io::Io;
use self::messaging::Messages;
pub use self::quota::MAX_HOST_CALLS;
use self::quota::Quota;
use self::random::RandomStream;
use self::state::CallState;
use self::timers::CallTimers;
use crate::bindings::messaging::wasi::messaging::{
    producer as messaging_producer, types as messaging_types,
};
use crate::bindings::millstream::plugin::{
    metrics as plugin_metrics, state as plugin_state, timers as plugin_timers,
};
use crate::bindings::secret_reader::millstream::plugin::secrets as plugin_secrets;
use crate::bindings::table_reader::millstream::plugin::tables as plugin_tables;
use crate::bindings::wasi::config::store;
use crate::bindings::wasi::logging::logging;
use crate::deadline::Deadline;
use crate::grants::WorkerGrants;
use crate::instance::WorkerSetup;
use crate::limiter::Limiter;
use crate::logs::Logs;
use crate::metrics::GuestMetrics;
use crate::state::StateChanges;
use crate::tables::Table;
use crate::timers::TimerChanges;
use crate::waits::Waits;

/// Streams, pollables and errors that a guest may hold at once.
const MAX_RESOURCES: usize = 1_024;

/// Whether a call may change what outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
    /// A part of a state is taken over: it may change so much less that it always fits into a commit.
    Migration,
}

/// The state behind one worker.
pub(crate) struct HostState {
    pub(crate) limiter: Limiter,
    pub(crate) deadline: Deadline,
    pub(crate) quota: Quota,
    logs: Arc<Mutex<Logs>>,
    config: Vec<(String, String)>,
    access: Access,
    grants: WorkerGrants,
    /// Secrets that were asked for, were not there, and are in the log.
    missing_secrets: Vec<String>,
    state: CallState,
    tables: Vec<Table>,
    timers: CallTimers,
    metrics: Arc<GuestMetrics>,
    messages: Messages,
    http: Http,
    pub(crate) waits: Arc<dyn Waits>,
    time_ms: TimestampMs,
    /// Where a real monotonic clock begins.
    started: Instant,
    random: RandomStream,
    table: ResourceTable,
    cli: WasiCliCtx,
    files: WasiFilesystemCtx,
    /// As it is by default: no socket is made and no name looked up.
    network: WasiSocketsCtx,
}

impl HostState {
    pub(crate) fn new(setup: &WorkerSetup, memory_bytes: usize) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let logs = Logs::new(Arc::clone(&setup.logs), setup.limits.log_lines_per_second);
        let logs = Arc::new(Mutex::new(logs));
        Self {
            limiter: Limiter::new(memory_bytes),
            deadline: Deadline::from_now(setup.limits.deadline_ms),
            quota: Quota::new(),
            http: Http::new(&setup.grants.grants.http, Arc::clone(&logs)),
            waits: Arc::clone(&setup.waits),
            logs,
            config: setup.config.clone(),
            access: Access::ReadOnly,
            grants: setup.grants.clone(),
            missing_secrets: Vec::new(),
            state: CallState::new(Arc::clone(&setup.state)),
            tables: setup.tables.clone(),
            timers: CallTimers::default(),
            messages: Messages::new(&setup.topic, &setup.outputs),
            metrics: Arc::clone(&setup.metrics),
            time_ms: 0,
            started: Instant::now(),
            random: RandomStream::new(&setup.deployment, &setup.topic, setup.partition),
            table,
            cli: WasiCliCtx::default(),
            files: WasiFilesystemCtx::default(),
            network: WasiSocketsCtx::default(),
        }
    }

    /// Sets clocks and randomness for a call, and begins its log and its changes.
    pub(crate) fn begin_call(&mut self, position: Offset, time_ms: TimestampMs, access: Access) {
        self.limiter.forget();
        self.quota.begin_call();
        self.messages.begin_call();
        self.http.begin_call(access);
        self.time_ms = time_ms;
        self.random.seek(position);
        self.logs().begin_call();
        self.access = access;
        self.state.begin_call();
        self.timers.begin_call();
    }

    /// What the call has changed in the state, and which timers it has set and cancelled.
    pub(crate) fn take_changes(&mut self) -> (StateChanges, TimerChanges) {
        (self.state.take_changes(), self.timers.take_changes())
    }

    pub(crate) fn logs(&self) -> MutexGuard<'_, Logs> {
        // Logging leaves nothing half done.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Our own implementations are those of [`HostState`].
type Own = HasSelf<HostState>;

/// Links everything that [`fit`](crate::fit) lists as served, and nothing else.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    logging::add_to_linker::<_, Own>(linker, |state| state)?;
    store::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin_state::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin_timers::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin_metrics::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin_secrets::add_to_linker::<_, Own>(linker, |state| state)?;
    plugin_tables::add_to_linker::<_, Own>(linker, |state| state)?;
    messaging_types::add_to_linker::<_, Own>(linker, |state| state)?;
    messaging_producer::add_to_linker::<_, Own>(linker, |state| state)?;
    add_own_wasi(linker)?;
    add_io(linker)?;
    add_command_line(linker)?;
    add_files(linker)?;
    add_network(linker)?;
    http::add_to_linker(linker)
}

fn add_own_wasi(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasi_clocks::monotonic_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_clocks::wall_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_random::random::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_random::insecure::add_to_linker::<_, Own>(linker, |state| state)?;
    wasi_random::insecure_seed::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::stdout::add_to_linker::<_, Own>(linker, |state| state)?;
    cli::stderr::add_to_linker::<_, Own>(linker, |state| state)
}

fn add_io(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    /// An error is neither waited for nor made by waiting.
    struct Errors;
    impl HasData for Errors {
        type Data<'a> = &'a mut ResourceTable;
    }
    sync::io::error::add_to_linker::<_, Errors>(linker, |state| {
        state.quota.table(&mut state.table)
    })?;
    sync::io::poll::add_to_linker::<_, Io>(linker, HostState::io)?;
    sync::io::streams::add_to_linker::<_, Io>(linker, HostState::io)
}

fn add_command_line(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    fn view(state: &mut HostState) -> WasiCliCtxView<'_> {
        WasiCliCtxView {
            ctx: &mut state.cli,
            table: state.quota.table(&mut state.table),
        }
    }
    cli::environment::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, view)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, view)
}

fn add_files(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    fn view(state: &mut HostState) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView {
            ctx: &mut state.files,
            table: state.quota.table(&mut state.table),
        }
    }
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(linker, view)?;
    sync::filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, view)
}

/// Language run-times import all of `wasi:sockets` whether or not a plugin names it: refusing the
/// import would refuse the language, so each use is refused instead.
fn add_network(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    fn view(state: &mut HostState) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView {
            ctx: &mut state.network,
            table: state.quota.table(&mut state.table),
        }
    }
    let options = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<_, WasiSockets>(linker, &options, view)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, view)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, view)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, view)?;
    sync::sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, view)?;
    sync::sockets::tcp::add_to_linker::<_, WasiSockets>(linker, view)?;
    sync::sockets::udp::add_to_linker::<_, WasiSockets>(linker, view)
}
