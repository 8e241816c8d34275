//! What `wit_bindgen::generate!` makes of `wit/`: what every plugin has, and apart from it what one
//! with timers has.

wit_bindgen::generate!({
    path: "../../wit",
    world: "plugin",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "::millstream_plugin::__private::bindings",
});

/// And only one that takes over the state of other versions has a function for that.
pub mod migrating {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package millstream:plugin-sdk;
            world migrating {
                export millstream:plugin/state-migration@0.1.0;
            }",
        world: "millstream:plugin-sdk/migrating",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_migration",
        default_bindings_module: "::millstream_plugin::__private::bindings::migrating",
    });
}

/// A component has what it exports: only one with timers has their handler.
pub mod timed {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package millstream:plugin-sdk;
            world timed {
                import millstream:plugin/timers@0.1.0;
                export millstream:plugin/timer-handler@0.1.0;
            }",
        world: "millstream:plugin-sdk/timed",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_timers",
        default_bindings_module: "::millstream_plugin::__private::bindings::timed",
    });
}

/// What is imported besides by a plugin that looks up in tables.
pub mod table_reader {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "table-reader",
        generate_all,
    });
}

/// What is imported besides by a plugin that sends requests.
pub mod http_client {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "http-client",
        generate_all,
    });
}

/// What is imported besides by a plugin that reads secrets.
pub mod secret_reader {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "secret-reader",
        generate_all,
    });
}
