//! Three groups take one event at once, and each reacts to the one before: through a pause, a kill and
//! an event that nobody can read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;

use millstream::Client;
use millstream_e2e::artifacts::plugin;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::run;
use millstream_e2e::deployment::{file_of, has_records, records, worked_off};
use millstream_e2e::history::History;
use millstream_e2e::quakes;
use serde_json::{Value, json};

const UPLOADS: &str = "uploads";
const COMPRESSED: &str = "uploads-compressed";
const CHECKED: &str = "uploads-checked";
const NOTIFICATIONS: &str = "notifications";
const PARTITIONS: u32 = 3;

/// Uploads before the broker is killed, and in all.
const BEFORE: usize = 150;
const ALL: usize = 300;

/// An upload, as a model sees it.
struct Upload {
    id: String,
    user: String,
    title: String,
    content: String,
    event: Value,
    blocked: Option<&'static str>,
}

/// Uploads of all kinds: some name no licence, some have a passage of somebody else's.
fn uploads() -> Vec<Upload> {
    let lines = quakes::events().into_iter().map(|event| event.line);
    let upload = |(number, line): (usize, String)| {
        let licensed = number % 5 != 0;
        let stolen = number % 7 == 0;
        let content = if stolen {
            format!("{line} TYGER, tyger --\nBurning bright! {line}")
        } else {
            line
        };
        let (id, user) = (format!("u-{number}"), format!("user-{}", number % 11));
        let title = format!("Number {number}");
        let mut event = json!({"id": id, "user": user, "title": title, "content": content});
        if licensed {
            event["license"] = "own work".into();
        }
        Upload {
            id,
            user,
            title,
            content,
            event,
            blocked: match (licensed, stolen) {
                (false, _) => Some("it names no licence"),
                (true, true) => Some("it has a passage of The Tyger"),
                (true, false) => None,
            },
        }
    };
    lines.take(ALL).enumerate().map(upload).collect()
}

fn produce(broker: &Broker, lines: impl Iterator<Item = String>) {
    let text: String = lines.fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    });
    let path = broker.folder().join("uploads.ndjson");
    fs::write(&path, text).expect("a file");
    let mut command = broker.command(["produce", UPLOADS]);
    run(command.arg(path).args(["--key-field", "id"])).success();
}

fn plugin_command(broker: &Broker, verb: &str) {
    run(&mut broker.command(["plugin", verb, "upload-notify"])).success();
}

/// The values of a topic, in some order, with the keys that they must have.
async fn values(client: &Client, topic: &str, key: &str) -> Vec<Value> {
    let history = History::read(client, topic).await;
    let value = |record: &millstream::ConsumedRecord| {
        let value: Value =
            serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON");
        assert_eq!(
            record.key.as_deref(),
            value[key].as_str().map(str::as_bytes)
        );
        value
    };
    sorted(history.records().map(value).collect())
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.sort_by_key(Value::to_string);
    values
}

#[tokio::test]
async fn an_upload_is_compressed_checked_and_told_of_by_three_groups() {
    let mut broker = Broker::start();
    let client = broker.quick_client().await;
    let admin = client.admin();
    for topic in [UPLOADS, COMPRESSED, CHECKED, NOTIFICATIONS] {
        let created = admin.create_topic(topic).partitions(PARTITIONS).await;
        created.expect("a topic");
    }
    for (name, folder) in [
        ("upload-compress", "plugins/upload-compress"),
        ("upload-check", "plugins/upload-check"),
        ("upload-notify", "plugins/upload-notify"),
    ] {
        let file = file_of(name, plugin(folder), broker.folder());
        run(broker.command(["plugin", "deploy", "-f"]).arg(file)).success();
    }
    let uploads = uploads();
    let lines = |range: Range<usize>| uploads[range].iter().map(|upload| upload.event.to_string());

    // A group that stands still holds back none of the others.
    plugin_command(&broker, "pause");
    let poison = [r#"{"id":"poison"}"#.to_owned()];
    produce(&broker, lines(0..BEFORE).chain(poison));
    has_records(&admin, CHECKED, BEFORE).await;
    has_records(&admin, COMPRESSED, BEFORE).await;
    assert_eq!(records(&admin, NOTIFICATIONS).await, 0);
    plugin_command(&broker, "resume");
    has_records(&admin, NOTIFICATIONS, BEFORE / 2).await;
    broker.kill();
    broker.restart();
    let client = broker.quick_client().await;
    let admin = client.admin();
    produce(&broker, lines(BEFORE..ALL));
    has_records(&admin, NOTIFICATIONS, 2 * ALL).await;
    // One that came twice would come at the end.
    worked_off(&admin, "upload-compress", PARTITIONS).await;
    worked_off(&admin, "upload-check", 2 * PARTITIONS).await;
    worked_off(&admin, "upload-notify", 2 * PARTITIONS).await;

    let verdict = |upload: &Upload| {
        let Upload {
            id, user, title, ..
        } = upload;
        match upload.blocked {
            None => json!({"id": id, "user": user, "title": title, "verdict": "cleared"}),
            Some(reason) => json!({
                "id": id, "user": user, "title": title, "verdict": "blocked", "reason": reason,
            }),
        }
    };
    let verdicts = sorted(uploads.iter().map(verdict).collect());
    assert_eq!(values(&client, CHECKED, "id").await, verdicts);

    let told = |upload: &Upload| {
        let Upload {
            id, user, title, ..
        } = upload;
        let tells = |message: String| json!({"user": user, "upload": id, "message": message});
        let end = match upload.blocked {
            None => format!("“{title}” is published."),
            Some(reason) => format!("“{title}” cannot be published: {reason}."),
        };
        let begin = format!("We have received “{title}” and are looking at it.");
        [tells(begin), tells(end)]
    };
    let told = sorted(uploads.iter().flat_map(told).collect());
    assert_eq!(values(&client, NOTIFICATIONS, "user").await, told);

    let compressed = History::read(&client, COMPRESSED).await;
    let contents: BTreeMap<_, _> = uploads
        .iter()
        .map(|upload| (upload.id.as_bytes(), upload.content.len().to_string()))
        .collect();
    let found: BTreeMap<_, _> = compressed
        .records()
        .map(|record| {
            let bytes = record.headers.iter().find(|it| it.name == "bytes");
            let bytes = bytes.and_then(|it| it.value.as_deref());
            let bytes = str::from_utf8(bytes.expect("how large it was")).expect("a number");
            (record.key.as_deref().expect("a key"), bytes.to_owned())
        })
        .collect();
    assert_eq!((found, compressed.len()), (contents, ALL));

    for name in ["upload-compress", "upload-check", "upload-notify"] {
        let letters = History::read(&client, &format!("{name}.dead-letters")).await;
        let keys: Vec<_> = letters.records().map(|it| it.key.as_deref()).collect();
        assert_eq!(keys, [Some(&b"poison"[..])], "{name}");
    }
}
