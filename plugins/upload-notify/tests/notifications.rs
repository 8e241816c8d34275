//! The handler, run natively.

use millstream_plugin::testing::{self, Outcome};
use millstream_plugin::{Context, NewRecord};
use serde_json::{Value, json};
use upload_notify::{handle, init};

fn call(value: &str) -> Outcome {
    let context = Context::new("upload-notify", "uploads", 0).with_output("notifications");
    let mut worker = init(&context).unwrap();
    let record = NewRecord::new(value.as_bytes());
    let outcomes = testing::run(&context, &[record], |record, out| {
        handle(&mut worker, record, out)
    })
    .unwrap();
    <[Outcome; 1]>::try_from(outcomes).unwrap()[0].clone()
}

#[test]
fn users_hear_of_their_uploads() {
    for (more, message) in [
        (
            json!({"content": "c"}),
            "We have received “Rain” and are looking at it.",
        ),
        (json!({"verdict": "cleared"}), "“Rain” is published."),
        (json!({"verdict": "blocked"}), "“Rain” cannot be published."),
        (
            json!({"verdict": "blocked", "reason": "it names no licence"}),
            "“Rain” cannot be published: it names no licence.",
        ),
    ] {
        let mut news = json!({"id": "u-1", "user": "ada", "title": "Rain"});
        let fields = more.as_object().unwrap().clone();
        news.as_object_mut().unwrap().extend(fields);
        let Outcome::Emitted(told) = call(&news.to_string()) else {
            panic!("{news}");
        };
        let value: Value = serde_json::from_slice(&told.value.unwrap()).unwrap();
        assert_eq!(
            value,
            json!({"user": "ada", "upload": "u-1", "message": message})
        );
        assert_eq!(told.key.as_deref(), Some(&b"ada"[..]));
    }
}

#[test]
fn what_is_no_news_is_rejected() {
    for value in [
        "",
        "{}",
        r#"{"id":"u","user":"a"}"#,
        r#"{"id":"u","user":"a","title":"t","verdict":"perhaps"}"#,
    ] {
        assert!(matches!(call(value), Outcome::Rejected { .. }), "{value}");
    }
}

#[test]
fn the_output_must_be_declared() {
    assert!(init(&Context::new("upload-notify", "uploads", 0)).is_err());
}
