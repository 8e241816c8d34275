//! The engine: what all plugins share, and the thread that makes deadlines pass.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use millstream_protocol::limits::MAX_COMPONENT_BYTES;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, EngineWeak};

use crate::cache::Cache;
use crate::compiler::{CompileError, Compiler};
use crate::fit::{RefusedError, check_preamble};
use crate::host::{self, HostState};
use crate::io_threads::IoThreads;
use crate::plugin::{Plugin, digest};

/// How often running guests look whether their deadline has passed. A deadline is exceeded by at
/// most two of these.
pub const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Frames of a guest's stack that a trap reports.
const MAX_BACKTRACE_FRAMES: usize = 8;

/// The limits of a [`Runtime`]. Those of a worker are in
/// [`WorkerLimits`](millstream_protocol::api::plugin::WorkerLimits).
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// The largest component that is looked at, bytes.
    pub max_component_bytes: usize,
    /// Stack that a guest may use, bytes. It is a part of the calling thread's stack, which must
    /// be larger.
    pub max_stack_bytes: usize,
    /// Where components are compiled.
    pub compiler: Compiler,
    /// The folder in which compiled components are kept, of which nobody else may make use. Made if
    /// it is not there, in a folder that is. Without one, nothing is kept.
    pub cache_dir: Option<PathBuf>,
    /// Called on the threads that move the bytes of guests' requests, when they begin: what guests cause
    /// there can be given the priority that guests have.
    pub begin_io_thread: fn(),
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            max_component_bytes: MAX_COMPONENT_BYTES,
            max_stack_bytes: 512 * 1024,
            compiler: Compiler::InProcess,
            cache_dir: None,
            begin_io_thread: || (),
        }
    }
}

/// The engine could not be created: the machine or the configuration does not allow it.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the plugin engine: {reason}")]
pub struct RuntimeError {
    /// What the engine says.
    pub reason: String,
}

impl RuntimeError {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self {
            reason: format!("{reason:#}"),
        }
    }
}

/// Compiles and runs plugins. Cheap to clone: clones share one engine.
///
/// An engine costs memory and a thread that wakes every [`EPOCH_TICK`], so create it when the
/// first plugin is there. Both go with the last clone, [`Plugin`] and
/// [`Instance`](crate::Instance).
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

/// What a runtime, its plugins and their instances hold together.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<HostState>,
    max_component_bytes: usize,
    compiler: Compiler,
    cache: Option<Cache>,
    pub(crate) io: IoThreads,
    _ticker: Ticker,
}

impl Runtime {
    /// Starts an engine.
    ///
    /// # Errors
    ///
    /// The machine is not one that code can be generated for, or no thread can be started.
    pub fn new(config: RuntimeConfig) -> Result<Self, RuntimeError> {
        let engine = Engine::new(&engine_config(&config)).map_err(RuntimeError::new)?;
        let mut linker = Linker::new(&engine);
        host::add_to_linker(&mut linker).map_err(RuntimeError::new)?;
        let io = IoThreads::start(config.begin_io_thread).map_err(RuntimeError::new)?;
        let ticker = Ticker::start(engine.weak()).map_err(RuntimeError::new)?;
        let cache = config.cache_dir.map(|folder| Cache::open(folder, &engine));
        let shared = Shared {
            engine,
            linker,
            max_component_bytes: config.max_component_bytes,
            compiler: config.compiler,
            cache,
            io,
            _ticker: ticker,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Compiles a component and checks that it fits the world `millstream:plugin/plugin` or
    /// `millstream:plugin/record-plugin`: it may import only what is served, and must export what is
    /// called. One that the cache has is loaded from there.
    ///
    /// Takes about a second for a megabyte, on all cores: do it apart from what must be quick.
    ///
    /// # Errors
    ///
    /// [`RefusedError`] names what does not fit, and what would.
    pub fn compile(&self, component: &[u8]) -> Result<Plugin, RefusedError> {
        let limit = self.shared.max_component_bytes;
        if component.len() > limit {
            return Err(RefusedError::TooLarge {
                bytes: component.len(),
                limit,
            });
        }
        check_preamble(component)?;
        let digest = digest(component);
        if let Some(kept) = self.kept(&digest) {
            return kept;
        }
        let began = Instant::now();
        let Shared {
            engine, compiler, ..
        } = self.shared.as_ref();
        let artefact = compiler.compile(engine, component)?;
        let elapsed_ms = began.elapsed().as_millis() as u64;
        tracing::info!(digest, elapsed_ms, "component compiled");
        let compiled = artefact.load(engine).map_err(|error| {
            let reason = format!("{error:#}");
            CompileError::Unavailable { reason }
        })?;
        let shared = Arc::clone(&self.shared);
        let plugin = Plugin::fitting(shared, &compiled, &digest, component.len())?;
        if let Some(cache) = &self.shared.cache {
            cache.keep(&digest, component.len(), &artefact);
        }
        Ok(plugin)
    }

    /// The component of this digest as the cache has it, if it does, and whether it fits.
    pub fn kept(&self, digest: &str) -> Option<Result<Plugin, RefusedError>> {
        let kept = self.shared.cache.as_ref()?.load(digest)?;
        let component = match kept.artefact.load(&self.shared.engine) {
            Ok(component) => component,
            Err(error) => {
                tracing::warn!(digest, %error, "a compiled component is not for this engine");
                return None;
            }
        };
        let shared = Arc::clone(&self.shared);
        let bytes = kept.component_bytes;
        Some(Plugin::fitting(shared, &component, digest, bytes))
    }

    /// Has the cache forget every component whose digest is not `used`.
    pub fn forget_unless(&self, used: impl Fn(&str) -> bool) {
        if let Some(cache) = &self.shared.cache {
            cache.forget_unless(used);
        }
    }
}

pub(crate) fn engine_config(config: &RuntimeConfig) -> Config {
    let mut engine = Config::new();
    engine
        .epoch_interruption(true)
        .max_wasm_stack(config.max_stack_bytes)
        .wasm_backtrace_max_frames(NonZeroUsize::new(MAX_BACKTRACE_FRAMES))
        // The same bits come out on every machine.
        .relaxed_simd_deterministic(true)
        // Only outside unwinders need it, and it is registered anew for every plugin.
        .native_unwind_info(false);
    engine
}

/// Advances the engine's epoch until it is dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: EngineWeak) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("plugin-epoch".into())
            .spawn(move || {
                while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(EPOCH_TICK) {
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                }
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // The thread ends when its sender is gone.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the epoch thread of the plugin engine has panicked");
        }
    }
}
