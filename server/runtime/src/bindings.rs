//! What `wasmtime::component::bindgen!` makes of `wit/`: of the worlds that have everything.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "timer-plugin",
    imports: { default: trappable },
    require_store_data_send: true,
});

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
