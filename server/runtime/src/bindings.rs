//! What `wasmtime::component::bindgen!` makes of `wit/`.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    imports: { default: trappable },
    require_store_data_send: true,
});
