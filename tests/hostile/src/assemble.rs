//! The guest that a file's parts change: it takes records, and says nothing about them.

use crate::file::Parts;
use crate::imports::{self, Import};

/// Answers with an empty list, or with `ok`.
const EMPTY: &str = "(call $answer (i32.const 0) (i32.const 1024) (i32.const 0))";

/// Both interfaces, of the right types.
const EXPORTS: &str = r#"
    (export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))
    (export "millstream:plugin/batch-handler@0.1.0" (instance $batch-handler))
"#;

/// Memory, and an allocator that begins anew when its page is full.
const LIBC: &str = r#"
    (core module $libc
        (memory (export "memory") 2)
        (global $top (mut i32) (i32.const 65536))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (if (i32.gt_u
                    (i32.add (global.get $top) (local.get 3))
                    (i32.mul (memory.size) (i32.const 65536)))
                (then (global.set $top (i32.const 65536))))
            global.get $top
            ;; The next is aligned to 8.
            (global.set $top
                (i32.and (i32.add (i32.add (global.get $top) (local.get 3)) (i32.const 7)) (i32.const -8)))))
    (core instance $libc (instantiate $libc))
"#;

/// `init` and `handle` as interfaces. A record is exported by name, which takes a component.
const INTERFACES: &str = r#"
    (type $context (record
        (field "deployment" string) (field "topic" string)
        (field "partition" u32) (field "outputs" (list string))))
    (func $init (param "ctx" $context) (result (result (error string)))
        (canon lift (core func $guest "init")
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
"#;

const HANDLER: &str = r#"
    (func $handle (param "batches" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $guest "handle")
            (memory (core memory $libc "memory")) (realloc (core func $libc "realloc")) {post-return}))
    (instance $batch-handler (export "handle" (func $handle)))
"#;

/// Assembles what the parts say.
pub(crate) fn component(name: &str, parts: &Parts) -> Vec<u8> {
    if let Some(bytes) = parts.get("bytes") {
        return bytes.clone().into_bytes();
    }
    let text = parts.get("component").cloned();
    let text = text.unwrap_or_else(|| guest(parts));
    let mut component = wat::parse_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    if let Some(bytes) = parts.get("pad") {
        let bytes: usize = bytes.trim().parse().expect("a number of bytes");
        component.resize(component.len() + bytes, 0);
    }
    component
}

fn guest(parts: &Parts) -> String {
    let part = |name, default| parts.get(name).map_or(default, String::as_str);
    let uses = part("uses", "").split(", ").filter(|name| !name.is_empty());
    let uses: Vec<_> = uses.map(imports::find).collect();
    let mut interfaces = Vec::new();
    for import in &uses {
        if !interfaces.contains(&import.interface) {
            interfaces.push(import.interface);
        }
    }
    let each =
        |write: fn(&Import) -> String| uses.iter().map(|import| write(import)).collect::<String>();
    let lowered =
        each(|Import { name, lower, .. }| format!("(core func $'{name} (canon lower {lower}))\n"));
    let given = each(|Import { name, .. }| format!("(export \"{name}\" (func $'{name}))\n"));
    let taken = each(|Import { name, core, .. }| {
        format!("(import \"host\" \"{name}\" (func ${name} {core}))\n")
    });
    let clean_up = parts
        .get("post-return")
        .map(|body| format!("(func (export \"post-return\") (param i32) {body})"));
    let post_return = clean_up
        .as_ref()
        .map_or("", |_| r#"(post-return (core func $guest "post-return"))"#);
    let handler = HANDLER.replace("{post-return}", post_return);
    format!(
        r#"(component
            {interfaces}
            {imports}
            {libc}
            {lowered}
            (core module $guest
                (import "libc" "memory" (memory 0))
                {taken}
                {takes}
                (data (i32.const 1024) "{data}")
                ;; A result in memory: 0 for ok or 1 for error, and a list or string.
                (func $answer (param $kind i32) (param $at i32) (param $bytes i32) (result i32)
                    (i32.store8 (i32.const 16) (local.get $kind))
                    (i32.store (i32.const 20) (local.get $at))
                    (i32.store (i32.const 24) (local.get $bytes))
                    (i32.const 16))
                {core}
                (func (export "init") (param i32 i32 i32 i32 i32 i32 i32) (result i32)
                    (local $i i32) {init})
                (func $handle (export "handle") (param $batches i32) (param $bytes i32) (result i32)
                    (local $i i32) (local $j i32) {handle})
                {clean_up})
            (core instance $guest (instantiate $guest
                (with "libc" (instance $libc))
                (with "host" (instance {given} {host}))))
            {INTERFACES}
            {handler}
            {exports}
        )"#,
        interfaces = interfaces.join("\n"),
        imports = part("imports", ""),
        libc = part("libc", LIBC),
        data = part("data", "").replace('\n', ""),
        host = part("host", ""),
        takes = part("takes", ""),
        core = part("core", ""),
        init = part("init", EMPTY),
        handle = part("handle", EMPTY),
        clean_up = clean_up.unwrap_or_default(),
        exports = part("exports", EXPORTS),
    )
}
