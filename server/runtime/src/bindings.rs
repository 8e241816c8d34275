//! What `wasmtime::component::bindgen!` makes of `wit/`.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: { default: trappable },
    require_store_data_send: true,
});

/// The world of typed records. What it imports is that of the other.
pub(crate) mod typed {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "record-plugin",
        imports: { default: trappable },
        require_store_data_send: true,
        // Records are handed over from where they lie.
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "millstream:plugin/metrics": crate::bindings::millstream::plugin::metrics,
            "millstream:plugin/state": crate::bindings::millstream::plugin::state,
            "wasi:config/store": crate::bindings::wasi::config::store,
            "wasi:logging/logging": crate::bindings::wasi::logging::logging,
        },
    });
}
