//! The handler, run natively.

use mask_pii::{handle, init};
use millstream_plugin::testing::{self, Emitted, Metric, Outcome};
use millstream_plugin::{Context, Header, NewRecord};

const SALT: &str = "a salt that is long enough";

fn context(config: &[(&str, &str)]) -> Context {
    let context = Context::new("mask-pii", "customers", 0).with_output("masked");
    config.iter().fold(context, |context, (name, value)| {
        context.with_config(*name, *value)
    })
}

fn run(config: &[(&str, &str)], record: NewRecord<'_>) -> Outcome {
    let context = context(config);
    let mut worker = init(&context).unwrap();
    let outcomes = testing::run(&context, &[record], |record, out| {
        handle(&mut worker, record, out)
    });
    let [outcome] = <[Outcome; 1]>::try_from(outcomes.unwrap()).unwrap();
    outcome
}

/// Checks what `value` becomes, byte for byte.
fn check(config: &[(&str, &str)], value: &str, expect: &str) {
    match run(config, NewRecord::new(value.as_bytes())) {
        Outcome::Emitted(Emitted { value: masked, .. }) => {
            assert_eq!(String::from_utf8(masked.unwrap()).unwrap(), expect);
        }
        other => panic!("{value}: {other:?}"),
    }
}

fn check_rejected(config: &[(&str, &str)], value: &[u8], expect: &str) {
    let expect = Outcome::Rejected {
        input: 0,
        reason: expect.into(),
    };
    assert_eq!(run(config, NewRecord::new(value)), expect);
}

#[test]
fn a_masked_value_is_all_that_changes() {
    check(
        &[("fields", "email,card"), ("keep-last", "4")],
        "\t{ \"id\" : 1.50e+0,\n\"email\":\"a@b.c\" , \"tags\":[ ],\"card\" :4111111111111234, \"n\u{e9}\":\"\\u00e9\" } \n",
        "\t{ \"id\" : 1.50e+0,\n\"email\":\"***\" , \"tags\":[ ],\"card\" :\"***1234\", \"n\u{e9}\":\"\\u00e9\" } \n",
    );
}

#[test]
fn a_value_of_any_kind_is_masked_as_a_whole() {
    check(
        &[("fields", "a")],
        r#"{"a":{"b":[1]},"a":[1,2],"a":true,"a":-1,"a":"","a":null}"#,
        r#"{"a":"***","a":"***","a":"***","a":"***","a":"***","a":null}"#,
    );
}

#[test]
fn a_path_leads_into_objects_and_the_objects_of_arrays() {
    let config = [("fields", "user.phone,orders.to.name")];
    check(
        &config,
        r#"{"phone":1,"user":{"phone":1,"user":{"phone":1}},"orders":[{"to":{"name":"A"}},{"to":[{"name":"B"},[{"name":"C"}]]},"name",{}]}"#,
        r#"{"phone":1,"user":{"phone":"***","user":{"phone":1}},"orders":[{"to":{"name":"***"}},{"to":[{"name":"***"},[{"name":"***"}]]},"name",{}]}"#,
    );
    // There is nothing below these.
    for value in [r#"{"user":"phone","orders":7}"#, r#"{"user":null}"#, "{}"] {
        check(&config, value, value);
    }
}

#[test]
fn a_name_cannot_hide_behind_escapes() {
    check(
        &[("fields", "email,gr\u{f6}\u{df}e")],
        r#"{"\u0065mail":"a@b.c","gr\u00f6\u00dfe":180,"e\\mail":1,"\ud800":2}"#,
        r#"{"\u0065mail":"***","gr\u00f6\u00dfe":"***","e\\mail":1,"\ud800":2}"#,
    );
}

#[test]
fn a_dropped_field_leaves_a_valid_object() {
    let config = [("fields", "a,b,o.a"), ("mode", "drop")];
    check(&config, r#"{"a":1}"#, "{}");
    check(&config, r#"{ "a" : 1 , "b":2 }"#, "{ }");
    check(&config, r#"{"a":1, "c":2}"#, r#"{"c":2}"#);
    check(&config, r#"{"a":1,"b":2,"c":3}"#, r#"{"c":3}"#);
    check(&config, r#"{"c":1, "a":2}"#, r#"{"c":1}"#);
    check(&config, r#"{"c":1, "a":2, "d":3}"#, r#"{"c":1, "d":3}"#);
    check(
        &config,
        r#"{"a":0,"c":1,"a":2,"b":3,"d":4,"a":null}"#,
        r#"{"c":1,"d":4}"#,
    );
    check(
        &config,
        r#"{"a":0,"o":[{"a":1},{"a":1,"c":2}],"b":3}"#,
        r#"{"o":[{},{"c":2}]}"#,
    );
}

#[test]
fn a_hash_is_stable_and_keyed() {
    let hash = |salt| {
        let config = [("fields", "email"), ("mode", "hash"), ("salt", salt)];
        match run(&config, NewRecord::new(br#"{"email":"a@b.c"}"#)) {
            Outcome::Emitted(emitted) => String::from_utf8(emitted.value.unwrap()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    // As of `openssl dgst -sha256 -hmac "a salt that is long enough"`.
    assert_eq!(
        hash(SALT),
        r#"{"email":"e3bd530163db8d64e13cada0d95048d8999830ac98865702859a7b1cbbb1a93c"}"#
    );
    assert_ne!(hash(SALT), hash("another that is long enough"));
}

#[test]
fn key_headers_and_time_stay() {
    let headers = [Header {
        name: "trace",
        value: Some(b"7"),
    }];
    let record = NewRecord::new(br#"{"email":"a@b.c"}"#)
        .with_key(b"customer-7")
        .with_headers(&headers)
        .with_timestamp_ms(1_700_000_000_000);
    let expect = Outcome::Emitted(Emitted {
        input: 0,
        output: "masked".into(),
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"customer-7".to_vec()),
        value: Some(br#"{"email":"***"}"#.to_vec()),
        headers: vec![("trace".into(), Some(b"7".to_vec()))],
    });
    assert_eq!(run(&[("fields", "email")], record), expect);
}

#[test]
fn a_deletion_passes() {
    match run(&[("fields", "email")], NewRecord::tombstone(b"customer-7")) {
        Outcome::Emitted(emitted) => {
            assert_eq!(
                (emitted.key.as_deref(), emitted.value),
                (Some(&b"customer-7"[..]), None)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_reason_cites_nothing_of_the_record() {
    let config = [("fields", "email"), ("keep-last", "2")];
    check_rejected(&config, b"", "invalid JSON at byte 0: expected an object");
    check_rejected(
        &config,
        b"Jane Doe, a@b.c",
        "invalid JSON at byte 0: expected an object",
    );
    check_rejected(
        &config,
        br#"[{"email":"a@b.c"}]"#,
        "invalid JSON at byte 0: expected an object",
    );
    check_rejected(
        &config,
        br#"{"email":"a@b.c}"#,
        "invalid JSON at byte 16: expected the end of a string",
    );
    check_rejected(
        &config,
        b"{\"email\":\"\xff\"}",
        "invalid JSON at byte 10: not UTF-8",
    );
    check_rejected(
        &config,
        br#"{"email":"a@b.c\udc00"}"#,
        "a string to redact has an unpaired surrogate",
    );
    let nested = format!(r#"{{"email":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    check_rejected(
        &config,
        nested.as_bytes(),
        "invalid JSON at byte 136: nested too deep",
    );
}

#[test]
fn what_grows_too_large_is_rejected() {
    let value = format!(r#"{{"x":[{{"a":1}}{}]}}"#, r#",{"a":1}"#.repeat(500_000));
    check_rejected(
        &[("fields", "x.a")],
        value.as_bytes(),
        "an output has 6000019 bytes, more than 4194304",
    );
}

#[test]
fn redacted_values_are_counted() {
    testing::clear_metrics();
    let config = [("fields", "a,b"), ("mode", "drop")];
    check(&config, r#"{"a":1,"b":2,"c":3}"#, r#"{"c":3}"#);
    check(&config, r#"{"c":3}"#, r#"{"c":3}"#);
    check(&config, r#"{"b":2}"#, "{}");
    assert_eq!(
        testing::metrics(),
        [("values_redacted".to_owned(), Metric::Counter(3))]
    );
}

#[test]
fn a_deployment_that_cannot_work_does_not_start() {
    let check = |config: &[(&str, &str)], expect: &str| {
        let error = init(&context(config)).err().unwrap().to_string();
        assert_eq!(error, expect);
        assert!(!error.contains("secret"), "{error}");
    };
    let fields = ("fields", "email");
    check(&[], "fields must name at least one field");
    check(
        &[("fields", "email,")],
        "fields must be names or dotted paths, separated by commas, not ``",
    );
    check(
        &[fields, ("mode", "blur")],
        "mode must be `mask`, `drop` or `hash`, not `blur`",
    );
    check(
        &[fields, ("keep-last", "-1")],
        "keep-last must be a number of characters, not `-1`",
    );
    check(
        &[fields, ("mode", "drop"), ("keep-last", "4")],
        "keep-last goes with mode `mask`",
    );
    check(&[fields, ("mode", "hash")], "mode `hash` needs a salt");
    check(
        &[fields, ("mode", "hash"), ("salt", "a short secret")],
        "salt must have 16 bytes or more",
    );
    check(
        &[fields, ("salt", "a secret")],
        "salt goes with mode `hash`",
    );
    let bare = Context::new("mask-pii", "customers", 0).with_config("fields", "email");
    assert_eq!(
        init(&bare).err().unwrap().to_string(),
        "the deployment declares no output `masked` (it declares none)"
    );
}
