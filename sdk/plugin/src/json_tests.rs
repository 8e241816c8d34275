//! The scanner against serde_json, which makes values of everything.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::*;

fn some_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z \"\\\\/\n\u{1}é]{0,30}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn some_object() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("[a-e]{1,2}", some_value(), 0..8).prop_map(|map| map.into_iter().collect())
}

/// Whether serde_json takes the text for an object, without a look at what it says.
fn is_object(json: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(json) else {
        return false;
    };
    text.trim_start_matches([' ', '\t', '\n', '\r'])
        .starts_with('{')
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

proptest! {
    #[test]
    fn fields_are_found_as_they_are_written(object in some_object(), pretty in any::<bool>()) {
        let json = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
        let names = ["a", "b", "ab", "zz"];
        let found = fields(&json, names).unwrap();
        for (name, found) in names.into_iter().zip(found) {
            let found = found.map(|text| serde_json::from_str::<Value>(text).unwrap());
            let expect = object.get(name).map(|value| serde_json::from_str(&value.to_string()).unwrap());
            prop_assert_eq!(found, expect, "{}", name);
        }
    }

    #[test]
    fn what_serde_refuses_is_refused_and_nothing_else(
        object in some_object(),
        changes in vec((any::<prop::sample::Index>(), prop::sample::select(&b"{}[]\":,\\ux0.-+e tn\x1f\xff"[..])), 0..3),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut json = serde_json::to_vec(&object).unwrap();
        for (index, byte) in changes {
            let index = index.index(json.len());
            json[index] = byte;
        }
        prop_assert_eq!(fields(&json, ["a"]).is_ok(), is_object(&json), "{}", String::from_utf8_lossy(&json));
        let cut = &json[..cut.index(json.len())];
        prop_assert_eq!(fields(cut, ["a"]).is_ok(), is_object(cut), "{}", String::from_utf8_lossy(cut));
    }
}

proptest! {
    #[test]
    fn numbers_are_the_nearest_there_are(
        number in prop_oneof![
            "-?(0|[1-9][0-9]{0,17})([.][0-9]{1,17})?([eE][+-]?[0-9]{1,3})?",
            "-?(0|[1-9][0-9]{0,4})[.][0-9]{1,10}",
            any::<f64>().prop_filter("JSON has no other", |it| it.is_finite()).prop_map(|it| it.to_string()),
        ],
    ) {
        let expect: f64 = number.parse().unwrap();
        let found = super::number(&number);
        prop_assert_eq!(found.map(f64::to_bits), expect.is_finite().then(|| expect.to_bits()), "{}", number);
    }
}

#[test]
fn what_is_no_number_is_told_from_one() {
    for value in [
        "\"1\"", "null", "true", "[1]", "", "-", "1.2.3", "inf", "NaN",
    ] {
        assert_eq!(number(value), None, "{value}");
    }
}

fn check_invalid(json: &str, at: usize, what: &'static str) {
    assert_eq!(
        fields(json.as_bytes(), ["a"]),
        Err(InvalidJson { at, what }),
        "{json}"
    );
    assert!(!is_object(json.as_bytes()), "{json}");
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    check_invalid("", 0, "expected an object");
    check_invalid("[1]", 0, "expected an object");
    check_invalid("{", 1, "expected a string");
    check_invalid(r#"{"a""#, 4, "expected `:`");
    check_invalid(r#"{"a":}"#, 5, "expected a value");
    check_invalid(r#"{"a":nil}"#, 5, "expected a value");
    check_invalid(r#"{"a":1,}"#, 7, "expected a string");
    check_invalid(r#"{"a":1"b":2}"#, 6, "expected `,` or `}`");
    check_invalid(r#"{"a":[1 2]}"#, 8, "expected `,` or `]`");
    check_invalid(r#"{"a":[1,]}"#, 8, "expected a value");
    check_invalid(r#"{"a":"b"#, 7, "expected the end of a string");
    check_invalid("{\"a\":\"b\n\"}", 7, "a control character in a string");
    check_invalid(r#"{"a":"\x"}"#, 7, "unknown escape");
    check_invalid(r#"{"a":"\u12g4"}"#, 10, "expected a hexadecimal digit");
    check_invalid(r#"{"a":01}"#, 6, "expected `,` or `}`");
    check_invalid(r#"{"a":-}"#, 6, "expected a digit");
    check_invalid(r#"{"a":1.}"#, 7, "expected a digit");
    check_invalid(r#"{"a":1e+}"#, 8, "expected a digit");
    check_invalid(r#"{"a":1} {"#, 8, "expected the end");
    let error = fields(b"{\"a\":\"\xff\"}", ["a"]).unwrap_err();
    assert_eq!(
        error,
        InvalidJson {
            at: 6,
            what: "not UTF-8"
        }
    );
}

#[test]
fn strings_and_digits_of_any_length_end_anywhere() {
    for len in 1..40 {
        for blanks in 0..20 {
            let (string, digits) = ("s".repeat(len), "7".repeat(len));
            let blanks = " ".repeat(blanks);
            let json = format!(r#"{{"{string}":"{string}","n":{digits},"f":-0.{digits}{blanks}}}"#);
            let found = fields(json.as_bytes(), [&string, "n", "f"]).unwrap();
            let (quoted, fraction) = (format!("\"{string}\""), format!("-0.{digits}"));
            assert_eq!(
                found,
                [Some(&*quoted), Some(&*digits), Some(&*fraction)],
                "{json}"
            );
        }
        for special in ["\u{1}", "\\x", "\u{7f}\u{1f}"] {
            for before in 0..len {
                let string = format!(
                    "{}{special}{}",
                    "s".repeat(before),
                    "s".repeat(len - before)
                );
                let json = format!(r#"{{"a":"{string}"}}"#);
                assert!(fields(json.as_bytes(), ["a"]).is_err(), "{json:?}");
            }
        }
    }
}

#[test]
fn the_last_of_the_same_name_counts() {
    assert_eq!(
        fields(br#"{"a":1,"b":[{"a":2}],"a" : "3" }"#, ["a"]),
        Ok([Some(r#""3""#)])
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(fields(nested(127).as_bytes(), ["a"]).is_ok());
    let error = fields(nested(128).as_bytes(), ["a"]).unwrap_err();
    assert_eq!(
        error,
        InvalidJson {
            at: 5 + 127,
            what: "nested too deep"
        }
    );
}
