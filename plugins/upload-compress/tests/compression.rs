//! The handler, run natively.

use millstream_plugin::testing::{self, Emitted, Outcome};
use millstream_plugin::{Context, NewRecord};
use miniz_oxide::inflate::decompress_to_vec_zlib;
use serde_json::json;
use upload_compress::{handle, init};

fn context() -> Context {
    Context::new("upload-compress", "uploads", 0).with_output("compressed")
}

fn call(value: &str) -> Outcome {
    let context = context();
    let mut worker = init(&context).unwrap();
    let record = NewRecord::new(value.as_bytes()).with_timestamp_ms(7);
    let outcomes = testing::run(&context, &[record], |record, out| {
        handle(&mut worker, record, out)
    })
    .unwrap();
    <[Outcome; 1]>::try_from(outcomes).unwrap()[0].clone()
}

fn compressed(value: &str) -> Emitted {
    match call(value) {
        Outcome::Emitted(file) => file,
        other => panic!("{other:?}"),
    }
}

fn header(file: &Emitted, name: &str) -> Option<String> {
    let (_, value) = file.headers.iter().find(|(found, _)| found == name)?;
    Some(String::from_utf8(value.clone().unwrap()).unwrap())
}

#[test]
fn the_content_comes_back_and_the_rest_is_in_headers() {
    let content = "it rains, ".repeat(1_000);
    let upload = json!({
        "id": "u-1", "user": "ada", "title": "Rain", "license": "own", "content": content,
    });
    let file = compressed(&upload.to_string());
    let value = file.value.as_deref().unwrap();
    assert!(value.len() < 200, "{} bytes", value.len());
    assert_eq!(decompress_to_vec_zlib(value).unwrap(), content.as_bytes());
    assert_eq!(file.key.as_deref(), Some(&b"u-1"[..]));
    assert_eq!(file.timestamp_ms, 7);
    let expected = [
        ("content-encoding", "deflate"),
        ("bytes", "10000"),
        ("user", "ada"),
        ("title", "Rain"),
        ("license", "own"),
    ];
    for (name, value) in expected {
        assert_eq!(header(&file, name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn what_is_not_there_is_no_header_and_empty_is_a_content() {
    let file = compressed(r#"{"id":"u-2","user":"ada","title":"","content":""}"#);
    assert_eq!(header(&file, "license"), None);
    assert_eq!(header(&file, "bytes").as_deref(), Some("0"));
    assert_eq!(decompress_to_vec_zlib(&file.value.unwrap()).unwrap(), b"");
}

#[test]
fn what_is_no_upload_is_rejected() {
    for value in [
        "",
        "{}",
        "[1]",
        r#"{"id":1,"user":"a","title":"t","content":"c"}"#,
    ] {
        assert!(matches!(call(value), Outcome::Rejected { .. }), "{value}");
    }
}

#[test]
fn the_output_must_be_declared() {
    let error = init(&Context::new("upload-compress", "uploads", 0))
        .err()
        .unwrap();
    assert!(error.to_string().contains("compressed"), "{error}");
}
