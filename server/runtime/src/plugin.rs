//! A component that has been compiled and fits.

use std::fmt::Write as _;
use std::sync::Arc;

use millstream_protocol::api::grants::Grants;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::engine::Shared;
use crate::fit::{self, Fit, RefusedError};
use crate::grants;
use crate::guest::GuestPre;
use crate::instance::{Instance, StartError, WorkerSetup};

/// A compiled component of which any number of workers can be started. Cheap to clone.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pre: GuestPre,
    digest: String,
    component_bytes: usize,
    imports: Vec<String>,
}

/// What a component is known by: its SHA-256, 64 lower-case hexadecimal digits.
pub fn digest(component: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(component) {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

impl Plugin {
    /// A compiled component, if it fits.
    pub(crate) fn fitting(
        shared: Arc<Shared>,
        component: &Component,
        digest: &str,
        component_bytes: usize,
    ) -> Result<Self, RefusedError> {
        let Fit {
            imports,
            handler,
            timers,
            migrates,
        } = fit::check_names(&shared.engine, component)?;
        let pre = fit::check_types(&shared.linker, component)?;
        let pre = GuestPre::new(pre, handler, timers, migrates);
        let pre = pre.map_err(|error| RefusedError::Invalid {
            reason: format!("{error:#}"),
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                pre,
                digest: digest.to_owned(),
                component_bytes,
                imports,
            }),
        })
    }

    /// The component's SHA-256, as [`digest`] writes it.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// The component's size, bytes.
    pub fn component_bytes(&self) -> usize {
        self.inner.component_bytes
    }

    /// The interfaces that the component imports, sorted (`wasi:logging/logging@0.1.0-draft`).
    pub fn imports(&self) -> &[String] {
        &self.inner.imports
    }

    /// Whether it can be called by timers.
    pub fn handles_timers(&self) -> bool {
        self.inner.pre.handles_timers()
    }

    /// Refuses the plugin where it imports what is granted to some, and not in `grants`, or what is
    /// served to deployments with tables, and there are none.
    ///
    /// # Errors
    ///
    /// [`RefusedError::Settings`].
    pub fn check_grants(&self, grants: &Grants, tables: usize) -> Result<(), RefusedError> {
        grants::check(&self.inner.imports, grants, tables)
    }

    /// Whether it takes over the state of other versions: [`Instance::migrate`] can be called.
    pub fn migrates_state(&self) -> bool {
        self.inner.pre.migrates_state()
    }

    /// Starts a worker: makes an instance and has it initialise itself.
    ///
    /// # Errors
    ///
    /// [`StartError`] says at what it failed. Nothing is left running.
    pub fn start(&self, setup: WorkerSetup) -> Result<Instance, StartError> {
        Instance::start(Arc::clone(&self.inner.shared), &self.inner.pre, setup)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", &self.inner.digest)
            .finish_non_exhaustive()
    }
}
