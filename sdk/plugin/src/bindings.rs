//! What `wit_bindgen::generate!` makes of `wit/`.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "::millstream_plugin::__private::bindings",
});
