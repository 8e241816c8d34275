//! The engine: what all plugins share, and the thread that makes deadlines pass.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use millstream_protocol::limits::MAX_COMPONENT_BYTES;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, EngineWeak};

use crate::fit::RefusedError;
use crate::host::{self, HostState};
use crate::plugin::Plugin;

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
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            max_component_bytes: MAX_COMPONENT_BYTES,
            max_stack_bytes: 512 * 1024,
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
        let ticker = Ticker::start(engine.weak()).map_err(RuntimeError::new)?;
        let shared = Shared {
            engine,
            linker,
            max_component_bytes: config.max_component_bytes,
            _ticker: ticker,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Compiles a component and checks that it fits the world `millstream:plugin/plugin` or
    /// `millstream:plugin/record-plugin`: it may import only what is served, and must export what is
    /// called.
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
        Plugin::compile(Arc::clone(&self.shared), component)
    }
}

fn engine_config(config: &RuntimeConfig) -> Config {
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
