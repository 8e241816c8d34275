//! Components that do not fit: each is refused in words that name what is wrong.

use millstream_runtime::{RefusedError, Runtime, RuntimeConfig};

use crate::RUNTIME;
use crate::handwritten::{EXPORTS, Guest};

fn check(component: &[u8], expect: &str) {
    let error = RUNTIME.compile(component).unwrap_err();
    assert_eq!(error.to_string(), expect);
}

fn check_import(imports: &str, expect: &str) {
    check(
        &Guest {
            imports,
            ..Guest::default()
        }
        .component(),
        expect,
    );
}

fn check_exports(exports: &str, expect: &str) {
    check(
        &Guest {
            exports,
            ..Guest::default()
        }
        .component(),
        expect,
    );
}

#[test]
fn what_fits_is_described() {
    let component = Guest::default().component();
    let plugin = RUNTIME.compile(&component).unwrap();
    assert_eq!(plugin.imports(), ["wasi:logging/logging@0.1.0-draft"]);
    assert_eq!(plugin.component_bytes(), component.len());
    assert_eq!(plugin.digest(), millstream_runtime::digest(&component));
    assert_eq!(plugin.digest().len(), 64);
}

#[test]
fn a_digest_is_sha_256() {
    let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(millstream_runtime::digest(b"abc"), expect);
}

#[test]
fn what_is_no_component_is_refused() {
    check(
        b"garbage bytes",
        "not a WebAssembly component: the first bytes are not those of one",
    );
    let module = wat::parse_str("(module)").unwrap();
    let expect =
        "a core WebAssembly module, not a component (Rust: build for the target wasm32-wasip2)";
    check(&module, expect);
}

#[test]
fn a_broken_component_is_refused() {
    let mut component = Guest::default().component();
    component.truncate(component.len() - 10);
    let error = RUNTIME.compile(&component).unwrap_err();
    assert!(matches!(error, RefusedError::Invalid { .. }), "{error}");
}

#[test]
fn a_large_component_is_refused_unseen() {
    let runtime = Runtime::new(RuntimeConfig {
        max_component_bytes: 10,
        ..RuntimeConfig::default()
    })
    .unwrap();
    let error = runtime.compile(&[0; 11]).unwrap_err();
    assert_eq!(
        error,
        RefusedError::TooLarge {
            bytes: 11,
            limit: 10
        }
    );
}

#[test]
fn an_import_that_is_not_granted_is_named() {
    check_import(
        r#"(import "wasi:keyvalue/store@0.2.0" (instance))"#,
        "the component imports `wasi:keyvalue/store@0.2.0`, which is not granted",
    );
    check_import(
        r#"(import "help" (func))"#,
        "the component imports `help`, which is not granted",
    );
}

#[test]
fn an_import_of_another_version_is_named_with_the_one_served() {
    check_import(
        r#"(import "wasi:config/store@0.2.0-draft" (instance))"#,
        "the component imports `wasi:config/store@0.2.0-draft`, but this broker serves \
         `wasi:config/store@0.2.0-rc.1`",
    );
    check_import(
        r#"(import "millstream:plugin/metrics@0.1.1" (instance))
           (import "millstream:plugin/metrics@1.0.0" (instance))"#,
        "the component imports `millstream:plugin/metrics@1.0.0`, but this broker serves \
         `millstream:plugin/metrics@0.1.0`",
    );
    check_import(
        r#"(import "millstream:plugin/state@0.2.0" (instance))"#,
        "the component imports `millstream:plugin/state@0.2.0`, but this broker serves \
         `millstream:plugin/state@0.1.0`",
    );
    check_import(
        r#"(import "wasi:clocks/wall-clock@0.3.0" (instance))"#,
        "the component imports `wasi:clocks/wall-clock@0.3.0`, but this broker serves \
         `wasi:clocks/wall-clock@0.2.0`",
    );
}

#[test]
fn an_import_of_another_type_is_named() {
    let imports = r#"(import "wasi:random/random@0.2.0" (instance
        (export "get-random-u64" (func (result string)))))"#;
    let component = Guest {
        imports,
        ..Guest::default()
    }
    .component();
    let error = RUNTIME.compile(&component).unwrap_err();
    let expect = "the component imports `wasi:random/random@0.2.0`, which differs from what this broker serves: \
                  instance export `get-random-u64` has the wrong type: ";
    assert!(error.to_string().starts_with(expect), "{error}");
}

#[test]
fn an_import_of_a_function_that_is_not_there_is_named() {
    let imports = r#"(import "wasi:random/random@0.2.0" (instance (export "roll-dice" (func (result u64)))))"#;
    let component = Guest {
        imports,
        ..Guest::default()
    }
    .component();
    let error = RUNTIME.compile(&component).unwrap_err();
    let RefusedError::Import { import, problem } = &error else {
        panic!("{error}")
    };
    assert_eq!(import, "wasi:random/random@0.2.0");
    assert!(problem.contains("roll-dice"), "{problem}");
}

#[test]
fn a_function_that_state_has_not_is_named() {
    let imports = r#"(import "millstream:plugin/state@0.1.0" (instance
        (export "increment" (func (param "key" (list u8)) (result u64)))))"#;
    let component = Guest {
        imports,
        ..Guest::default()
    }
    .component();
    let error = RUNTIME.compile(&component).unwrap_err();
    let RefusedError::Import { import, problem } = &error else {
        panic!("{error}")
    };
    assert_eq!(import, "millstream:plugin/state@0.1.0");
    assert!(problem.contains("increment"), "{problem}");
}

#[test]
fn a_missing_export_is_named() {
    check(
        &wat::parse_str("(component)").unwrap(),
        "the component lacks the export `millstream:plugin/lifecycle@0.1.0`",
    );
    check_exports(
        r#"(export "millstream:plugin/lifecycle@0.1.0" (instance $lifecycle))"#,
        "the component lacks the export `millstream:plugin/batch-handler@0.1.0` or \
         `millstream:plugin/record-handler@0.1.0`",
    );
    // A program's component, as `cargo build` makes it of a `main`.
    check_exports(
        r#"(export "wasi:cli/run@0.2.6" (instance $batch-handler))"#,
        "the component lacks the export `millstream:plugin/lifecycle@0.1.0`",
    );
}

#[test]
fn what_takes_over_a_state_is_checked_like_the_other_exports() {
    let exports = format!(
        "{EXPORTS} (export \"millstream:plugin/state-migration@0.1.0\" (instance $lifecycle))"
    );
    check_exports(
        &exports,
        "the component exports `millstream:plugin/state-migration@0.1.0`, which lacks the function \
         `migrate`",
    );
    let plugin = RUNTIME.compile(&Guest::default().component()).unwrap();
    assert!(!plugin.migrates_state());
}

#[test]
fn an_export_of_another_version_is_named_with_the_one_called() {
    check_exports(
        &EXPORTS.replace("batch-handler@0.1.0", "batch-handler@0.2.0"),
        "the component exports `millstream:plugin/batch-handler@0.2.0`, but this broker calls \
         `millstream:plugin/batch-handler@0.1.0`",
    );
}

#[test]
fn an_export_of_another_type_is_named_with_the_one_called() {
    check_exports(
        &EXPORTS.replace("$batch-handler)", "$lifecycle)"),
        "the component exports `millstream:plugin/batch-handler@0.1.0`, which lacks the function `handle`",
    );
    let wrong = r#"
        (func $wrong (param "batches" string) (result (result (list u8) (error string)))
            (canon lift (core func $guest "handle")
                (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
        (instance $other (export "handle" (func $wrong)))
    "#;
    check_exports(
        &format!("{wrong} {}", EXPORTS.replace("$batch-handler)", "$other)")),
        "the component exports `millstream:plugin/batch-handler@0.1.0`, whose `handle` is \
         `func(string) -> result<list<u8>, string>`, but this broker calls \
         `func(list<u8>) -> result<list<u8>, string>`",
    );
}

#[test]
fn a_component_with_both_handlers_is_refused() {
    let records = r#"(export "millstream:plugin/record-handler@0.1.0" (instance $batch-handler))"#;
    check_exports(
        &format!("{EXPORTS} {records}"),
        "the component exports `millstream:plugin/record-handler@0.1.0`, but also \
         `millstream:plugin/batch-handler@0.1.0`: a component has one handler",
    );
}

#[test]
fn a_record_handler_of_another_type_is_named_with_the_one_called() {
    check_exports(
        &EXPORTS.replace("batch-handler@0.1.0", "record-handler@0.1.0"),
        "the component exports `millstream:plugin/record-handler@0.1.0`, whose `handle` is \
         `func(list<u8>) -> result<list<u8>, string>`, but this broker calls \
         `func(list<record { offset: u64, timestamp-ms: s64, key: option<list<u8>>, \
         value: option<list<u8>>, headers: list<record { name: string, value: option<list<u8>> }> }>) \
         -> result<list<variant { emit(list<record { output: u32, timestamp-ms: option<s64>, \
         key: option<list<u8>>, value: option<list<u8>>, \
         headers: list<record { name: string, value: option<list<u8>> }> }>), drop, \
         reject(string), retry(record { after-ms: u32, reason: string }) }>, string>`",
    );
    check_exports(
        &EXPORTS.replace("batch-handler@0.1.0", "record-handler@0.2.0"),
        "the component exports `millstream:plugin/record-handler@0.2.0`, but this broker calls \
         `millstream:plugin/record-handler@0.1.0`",
    );
}

#[test]
fn timers_without_a_handler_are_refused() {
    check_import(
        r#"(import "millstream:plugin/timers@0.1.0" (instance))"#,
        "the component imports `millstream:plugin/timers@0.1.0`, but lacks the export \
         `millstream:plugin/timer-handler@0.1.0` or `millstream:plugin/record-timer-handler@0.1.0`",
    );
}
