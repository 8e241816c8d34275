//! The functions of a guest, whichever handler it has.

use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::bindings::exports::millstream::plugin::{batch_handler, lifecycle};
use crate::bindings::typed::exports::millstream::plugin::record_handler;
use crate::fit::HandlerKind;
use crate::host::HostState;

/// A guest of which instances can be made.
pub(crate) struct GuestPre {
    instance: InstancePre<HostState>,
    lifecycle: lifecycle::GuestIndices,
    handler: HandlerIndices,
}

enum HandlerIndices {
    Batch(batch_handler::GuestIndices),
    Record(record_handler::GuestIndices),
}

impl GuestPre {
    pub(crate) fn new(
        instance: InstancePre<HostState>,
        handler: HandlerKind,
    ) -> wasmtime::Result<Self> {
        let lifecycle = lifecycle::GuestIndices::new(&instance)?;
        let handler = match handler {
            HandlerKind::Batch => {
                HandlerIndices::Batch(batch_handler::GuestIndices::new(&instance)?)
            }
            HandlerKind::Record => {
                HandlerIndices::Record(record_handler::GuestIndices::new(&instance)?)
            }
        };
        Ok(Self {
            instance,
            lifecycle,
            handler,
        })
    }

    pub(crate) fn instantiate(&self, store: &mut Store<HostState>) -> wasmtime::Result<Guest> {
        let instance = self.instance.instantiate(&mut *store)?;
        let lifecycle = self.lifecycle.load(&mut *store, &instance)?;
        let handler = match &self.handler {
            HandlerIndices::Batch(indices) => Handler::Batch(indices.load(store, &instance)?),
            HandlerIndices::Record(indices) => Handler::Record(indices.load(store, &instance)?),
        };
        Ok(Guest { lifecycle, handler })
    }
}

/// What is called of an instance.
pub(crate) struct Guest {
    pub(crate) lifecycle: lifecycle::Guest,
    pub(crate) handler: Handler,
}

/// Its handler.
pub(crate) enum Handler {
    Batch(batch_handler::Guest),
    Record(record_handler::Guest),
}
