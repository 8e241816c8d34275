//! What `wasmtime::component::bindgen!` makes of `wit/`: of the worlds that have everything.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "timer-plugin",
    imports: { default: trappable },
    require_store_data_send: true,
});

/// What takes over the state of other versions.
pub(crate) mod migration {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "state-migration-plugin",
        imports: { default: trappable },
        require_store_data_send: true,
        with: {
            "millstream:plugin/state": crate::bindings::millstream::plugin::state,
        },
    });
}

/// What takes typed records. What is imported is the same.
pub(crate) mod typed {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "record-timer-plugin",
        imports: { default: trappable },
        require_store_data_send: true,
        // Records are handed over from where they lie.
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "millstream:plugin/metrics": crate::bindings::millstream::plugin::metrics,
            "millstream:plugin/state": crate::bindings::millstream::plugin::state,
            "millstream:plugin/timers": crate::bindings::millstream::plugin::timers,
            "wasi:config/store": crate::bindings::wasi::config::store,
            "wasi:logging/logging": crate::bindings::wasi::logging::logging,
        },
    });
}

/// What is imported besides by a component that reads secrets.
pub(crate) mod secret_reader {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "secret-reader",
        imports: { default: trappable },
        require_store_data_send: true,
    });
}

/// What is imported besides by a component that looks up in tables.
pub(crate) mod table_reader {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "table-reader",
        imports: { default: trappable },
        require_store_data_send: true,
    });
}

/// The world of `wasi:messaging`.
pub(crate) mod messaging {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "messaging-plugin",
        imports: { default: trappable },
        require_store_data_send: true,
        with: {
            "wasi:config/store": crate::bindings::wasi::config::store,
            "wasi:logging/logging": crate::bindings::wasi::logging::logging,
            "wasi:messaging/types.client": crate::messages::Client,
            "wasi:messaging/types.message": crate::messages::Message,
        },
    });
}
