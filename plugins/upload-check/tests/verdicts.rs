//! The handler, run natively.

use millstream_plugin::testing::{self, Outcome};
use millstream_plugin::{Context, Header, NewRecord};
use miniz_oxide::deflate::compress_to_vec_zlib;
use serde_json::{Value, json};
use upload_check::{handle, init};

fn context(protected: &str) -> Context {
    Context::new("upload-check", "uploads", 0)
        .with_output("verdicts")
        .with_config("protected", protected)
}

fn call(record: NewRecord<'_>) -> Vec<Outcome> {
    let context = context("The Tyger: tyger, tyger, burning bright\n\n Wind : öde see ");
    let mut worker = init(&context).unwrap();
    testing::run(&context, &[record], |record, out| {
        handle(&mut worker, record, out)
    })
    .unwrap()
}

fn verdict(outcomes: Vec<Outcome>) -> Option<Value> {
    match &outcomes[..] {
        [] => None,
        [Outcome::Emitted(verdict)] => {
            let value: Value = serde_json::from_slice(verdict.value.as_deref().unwrap()).unwrap();
            assert_eq!(
                verdict.key.as_deref(),
                value["id"].as_str().map(str::as_bytes)
            );
            Some(value)
        }
        other => panic!("{other:?}"),
    }
}

fn reason(outcomes: Vec<Outcome>) -> String {
    match &outcomes[..] {
        [Outcome::Rejected { reason, .. }] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
    Header {
        name,
        value: Some(value.as_bytes()),
    }
}

fn event(license: Option<&str>) -> Option<Value> {
    let event = json!({"id": "u", "user": "ada", "title": "T", "license": license, "content": "c"});
    verdict(call(NewRecord::new(event.to_string().as_bytes())))
}

fn file(value: &[u8], headers: &[Header<'_>]) -> Vec<Outcome> {
    call(NewRecord::new(value).with_key(b"u").with_headers(headers))
}

fn content(content: &str) -> Option<Value> {
    let headers = [
        header("content-encoding", "deflate"),
        header("user", "ada"),
        header("title", "T"),
        header("license", "own"),
    ];
    verdict(file(&compress_to_vec_zlib(content.as_bytes(), 6), &headers))
}

#[test]
fn an_event_without_a_licence_is_blocked_at_once_and_its_file_says_no_more() {
    let expected = json!({
        "id": "u", "user": "ada", "title": "T",
        "verdict": "blocked", "reason": "it names no licence",
    });
    assert_eq!(event(None), Some(expected));
    let headers = [
        header("content-encoding", "deflate"),
        header("user", "ada"),
        header("title", "T"),
    ];
    assert_eq!(
        verdict(file(&compress_to_vec_zlib(b"c", 6), &headers)),
        None
    );
}

#[test]
fn with_a_licence_the_file_decides() {
    assert_eq!(event(Some("own")), None);
    let cleared = json!({"id": "u", "user": "ada", "title": "T", "verdict": "cleared"});
    assert_eq!(content("It rains."), Some(cleared));
    let blocked = content("See:\n\"TYGER! tyger -- Burning bright\".").unwrap();
    assert_eq!(blocked["verdict"], "blocked");
    assert_eq!(blocked["reason"], "it has a passage of The Tyger");
    assert_eq!(content("Die öde\nSEE.").unwrap()["verdict"], "blocked");
}

#[test]
fn passages_are_found_in_whole_words() {
    for harmless in ["tyger tyger burning brighter", "tyger burning bright", ""] {
        assert_eq!(
            content(harmless).unwrap()["verdict"],
            "cleared",
            "{harmless}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_rejected() {
    let encoded = |encoding| header("content-encoding", encoding);
    let (user, title) = (header("user", "a"), header("title", "t"));
    let whole = compress_to_vec_zlib(b"c", 6);
    let bomb = compress_to_vec_zlib(&vec![0; 5 << 20], 9);
    let binary = compress_to_vec_zlib(&[0xff, 0xfe], 6);
    let deflate = [encoded("deflate"), user, title];
    for (value, headers, says) in [
        (&whole[..], &[encoded("br"), user, title][..], "`br`"),
        (b"no zlib", &deflate, "not unpacked"),
        (&whole[..whole.len() - 5], &deflate, "not unpacked"),
        (&bomb, &deflate, "not unpacked"),
        (&binary, &deflate, "utf-8"),
        (&whole, &[encoded("deflate"), title], "`user`"),
        (&whole, &[encoded("deflate"), user], "`title`"),
        (b"{}", &[], "`id`"),
    ] {
        let reason = reason(file(value, headers));
        assert!(reason.contains(says), "{reason}");
    }
    assert!(reason(call(NewRecord::tombstone(b"u"))).contains("no value"));
}

#[test]
fn passages_must_have_a_work_and_words() {
    for line in [
        "no colon",
        ": words",
        "Work:",
        "Work: ...",
        "Good: one\nBad",
    ] {
        let error = init(&context(line)).err().expect(line).to_string();
        assert!(error.contains("work: passage"), "{error}");
    }
    assert!(init(&Context::new("upload-check", "uploads", 0)).is_err());
}
