//! Components in WebAssembly's own text: small, and free to do what no SDK would.

/// The parts of a component that tests change.
pub(crate) struct Guest<'a> {
    /// Further imports of the component.
    pub imports: &'a str,
    /// The body of `init(7 x i32) -> i32`.
    pub init: &'a str,
    /// The body of `handle($batches i32, $bytes i32) -> i32`.
    pub handle: &'a str,
    /// Bytes in memory at 1024, as a text literal's content.
    pub data: &'a str,
    /// The end of the component: its exports.
    pub exports: &'a str,
}

/// Both interfaces, of the right types.
pub(crate) const EXPORTS: &str = r#"
    (export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
    (export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler))
"#;

/// Answers with an empty list, or with `ok`.
pub(crate) const EMPTY: &str = "(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))";

impl Default for Guest<'_> {
    fn default() -> Self {
        Self {
            imports: "",
            init: EMPTY,
            handle: EMPTY,
            data: "",
            exports: EXPORTS,
        }
    }
}

impl Guest<'_> {
    /// Assembles it.
    pub(crate) fn component(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    fn text(&self) -> String {
        let Self {
            imports, exports, ..
        } = self;
        let (libc, guest) = (LIBC, self.core());
        format!(
            r#"(component
                {imports}
                (import "wasi:logging/logging@0.1.0-draft" (instance $logging
                    (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
                    (export "level" (type $level (eq $level')))
                    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))

                {libc}
                (core instance $libc (instantiate $libc))
                (core func $log (canon lower (func $logging "log") (memory (core memory $libc "memory"))))
                {guest}
                (core instance $guest (instantiate $guest
                    (with "libc" (instance $libc))
                    (with "host" (instance (export "log" (func $log))))))

                {INTERFACES}
                {exports}
            )"#
        )
    }

    /// The guest proper.
    fn core(&self) -> String {
        let Self {
            init, handle, data, ..
        } = self;
        format!(
            r#"(core module $guest
                (import "libc" "memory" (memory 2))
                (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
                (data (i32.const 1024) "{data}")
                ;; A result in memory: 0 for ok or 1 for error, and a list or string.
                (func $answer (param $kind i32) (param $at i32) (param $bytes i32) (result i32)
                    (i32.store8 (i32.const 16) (local.get $kind))
                    (i32.store (i32.const 20) (local.get $at))
                    (i32.store (i32.const 24) (local.get $bytes))
                    (i32.const 16))
                (func (export "init") (param i32 i32 i32 i32 i32 i32 i32) (result i32) {init})
                (func $handle (export "handle") (param $batches i32) (param $bytes i32) (result i32) {handle}))"#
        )
    }
}

/// Memory, and an allocator that never frees.
const LIBC: &str = r#"
    (core module $libc
        (memory (export "memory") 2)
        (global $top (mut i32) (i32.const 4096))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            global.get $top
            ;; The next is aligned to 8.
            (global.set $top
                (i32.and (i32.add (i32.add (global.get $top) (local.get 3)) (i32.const 7)) (i32.const -8)))))
"#;

/// The guest's functions as interfaces. A record is exported by name, which takes a component.
const INTERFACES: &str = r#"
    (type $context (record
        (field "deployment" string) (field "topic" string)
        (field "partition" u32) (field "outputs" (list string))))
    (func $init (param "ctx" $context) (result (result (error string)))
        (canon lift (core func $guest "init")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
    (func $handle (param "batches" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $guest "handle")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))

    (component $named
        (type $context' (record
            (field "deployment" string) (field "topic" string)
            (field "partition" u32) (field "outputs" (list string))))
        (import "context" (type $context (eq $context')))
        (import "init" (func $init (param "ctx" $context) (result (result (error string)))))
        (export $exported "context" (type $context'))
        (export "init" (func $init) (func (param "ctx" $exported) (result (result (error string))))))
    (instance $lifecycle (instantiate $named (with "context" (type $context)) (with "init" (func $init))))
    (instance $batch-handler (export "handle" (func $handle)))
"#;
