//! What a deployment is given reaches plugins in Python, JavaScript and C: tables, secrets, hosts. A language
//! whose tools cannot be had is skipped, and it is said why.

use std::path::PathBuf;

use bytes::Bytes;
use millstream::{Admin, Cleanup, Client, ProduceRecord};
use millstream_e2e::artifacts::plugin_of_one_file;
use millstream_e2e::broker::Broker;
use millstream_e2e::command::{Finished, run};
use millstream_e2e::history::History;
use millstream_e2e::http_server::HttpServer;
use millstream_e2e::patience::until;

const NAME: &str = "reader";
const TABLE: &str = "--table=places=places";
const SECRET: &str = "--grant=secret=api-key";

/// Emits what its records ask for: `place KEY` what a table has, `secret NAME` what the deployment is granted,
/// `ask URL` what a server answers, which is sent a secret.
const IN_PYTHON: &str = r#"
from millstream_plugin import http, secrets, tables


class Plugin:
    def __init__(self, context):
        self.places = tables.Table("places")
        self.found = context.output("found")

    def handle(self, record, out):
        what, name = record.text().split(" ")
        if what == "ask":
            key = {"x-key": secrets.get("api-key")}
            response = http.post(name, "hello", headers=key, timeout_ms=1000).successful()
            found = f"{response.text()}, {response.header('Content-Length').decode()} bytes"
        else:
            found = self.places.get(name) if what == "place" else secrets.get(name)
        out.emit(self.found, value="none" if found is None else found)
"#;

const IN_JAVASCRIPT: &str = r#"
import { decode } from "millstream-plugin";
import { http } from "millstream-plugin/http";
import { secrets } from "millstream-plugin/secrets";
import { Table } from "millstream-plugin/tables";

export default class Plugin {
  constructor(context) {
    this.places = new Table("places");
    this.found = context.output("found");
  }

  handle(record, out) {
    const [what, name] = record.text().split(" ");
    out.emit(this.found, { value: this[what](name) ?? "none" });
  }

  place(key) {
    return this.places.get(key);
  }

  secret(name) {
    return secrets.get(name);
  }

  ask(url) {
    const headers = { "x-key": secrets.get("api-key") };
    const response = http.post(url, "hello", { headers, timeoutMs: 1000 }).successful();
    return `${response.text()}, ${decode(response.header("Content-Length"))} bytes`;
  }
}
"#;

const IN_C: &str = r#"
#include <millstream.h>
#include <stdio.h>
#include <string.h>

static ms_table places;
static ms_output output;

ms_result init(const ms_context *context) {
    if (ms_find_table("places", &places) != MS_OK)
        return MS_FAILED;
    return ms_find_output(context, "found", &output);
}

static ms_result ask(const char *url, ms_bytes *found) {
    ms_header key = {ms_text("x-key"), ms_secret_get("api-key")};
    ms_http_request request = {
        .method = "POST", .url = url, .headers = &key, .header_count = 1, .body = ms_text("hello"), .timeout_ms = 1000,
    };
    ms_http_response response;
    if (ms_http_send(&request, &response) != MS_OK || ms_http_successful(&response) != MS_OK)
        return MS_FAILED;
    ms_bytes length;
    if (!ms_http_find_header(&response, "Content-Length", &length))
        return ms_reject("a response without a length");
    *found = ms_format("%.*s, %.*s bytes", MS_ARG(response.body), MS_ARG(length));
    return MS_OK;
}

ms_result handle(const ms_record *record) {
    char what[8], name[2000];
    ms_bytes line = ms_format("%.*s%c", MS_ARG(record->value), 0), found;
    if (sscanf((const char *)line.data, "%7s %1999s", what, name) != 2)
        return ms_reject("not two words");
    if (strcmp(what, "secret") == 0)
        found = ms_secret_get(name);
    else if (strcmp(what, "ask") == 0) {
        if (ask(name, &found) != MS_OK)
            return MS_FAILED;
    } else if (ms_table_get(places, ms_text(name), &found) != MS_OK)
        return MS_FAILED;
    return ms_emit(output, &(ms_new_record){.value = found.data ? found : ms_text("none")});
}
"#;

/// A broker with a table and a secret, a server, and a plugin that may have use of them.
struct Reader {
    broker: Broker,
    client: Client,
    admin: Admin,
    server: HttpServer,
    component: PathBuf,
    _folder: tempfile::TempDir,
}

impl Reader {
    /// Nothing where the language's tools are missing.
    async fn start(marker: &str, source: &str) -> Option<Self> {
        let (component, folder) = plugin_of_one_file(NAME, marker, source)?;
        let broker = Broker::start();
        let client = broker.quick_client().await;
        let admin = client.admin();
        for topic in ["asked", "found"] {
            admin.create_topic(topic).await.unwrap();
        }
        let places = admin.create_topic("places").cleanup(Cleanup::Compact);
        places.await.unwrap();
        admin.set_secret("api-key", "hunter2").await.unwrap();
        let reader = Self {
            broker,
            client,
            admin,
            server: HttpServer::start(),
            component,
            _folder: folder,
        };
        let portland = ProduceRecord::new("Portland").key("pdx");
        let nowhere = ProduceRecord::new("").key("nil");
        reader.produce("places", [portland, nowhere]).await;
        Some(reader)
    }

    fn host(&self) -> String {
        format!("--grant=http={}", self.server.url(""))
    }

    fn deploy(&self, given: &[&str]) -> Finished {
        let mut deploy = self.broker.command(["plugin", "deploy"]);
        deploy.arg("--name").arg(NAME).arg(&self.component);
        deploy.args(["--input=asked", "--output-topic=found=found"]);
        deploy.args(["--attempts=2", "--first-back-off=5ms"]);
        run(deploy.args(given))
    }

    async fn produce(&self, topic: &str, records: impl IntoIterator<Item = ProduceRecord<'_>>) {
        let producer = self.client.producer(topic).build().await.unwrap();
        for record in records {
            producer.send(record).await.unwrap();
        }
        producer.close().await.unwrap();
    }

    async fn ask(&self, asked: &[&str]) {
        let records = asked
            .iter()
            .map(|&what| ProduceRecord::new(what.to_owned()));
        self.produce("asked", records).await;
    }

    /// What the plugin has found, as soon as there is so much.
    async fn found(&self, count: usize) -> Vec<String> {
        let text = |value: Option<&Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        until("what the plugin has found", async || {
            let history = History::read(&self.client, "found").await;
            let records = history.records();
            let found: Vec<_> = records.map(|record| text(record.value.as_ref())).collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }

    /// Why records were given up, as soon as there are so many.
    async fn given_up(&self, count: usize) -> Vec<String> {
        let reasons = until("dead letters", async || {
            let history = History::read(&self.client, "reader.dead-letters").await;
            let records = history.records();
            let reasons: Vec<_> = records
                .map(|record| format!("{:?}", record.headers))
                .collect();
            (reasons.len() >= count).then_some(reasons)
        });
        reasons.await
    }

    fn is_deployed_nowhere_else(&self) {
        let host = self.host();
        for (given, reason) in [
            ([SECRET, &host], "but the deployment names no table"),
            ([TABLE, &host], "but the deployment is granted no secret"),
            ([TABLE, SECRET], "but the deployment is granted no host"),
        ] {
            let refused = self.deploy(&given);
            assert!(refused.stderr.contains(reason), "{reason}: {refused:#?}");
        }
        let refused = self.deploy(&["--table=other=places", SECRET, &host]);
        let reason = "the deployment has no table `places` (it has `other`)";
        assert!(refused.stderr.contains(reason), "{refused:#?}");
        self.deploy(&[TABLE, SECRET, &host]).success();
    }

    async fn reads_and_follows(&self) {
        let long_key = format!("place {}", "k".repeat(1025));
        self.ask(&["place pdx", "place nil", "place xxx", &long_key])
            .await;
        self.ask(&["secret api-key", "secret other"]).await;
        let found = self.found(5).await;
        assert_eq!(found, ["Portland", "", "none", "hunter2", "none"]);
        let reason = "too large for a table: a key of 1025 bytes, more than 1024";
        let given_up = self.given_up(1).await;
        assert!(given_up[0].contains(reason), "{given_up:?}");

        self.admin.set_secret("api-key", "hunter3").await.unwrap();
        self.produce("places", [ProduceRecord::tombstone("pdx")])
            .await;
        until("a table that has followed", async || {
            let described = self.admin.describe_plugin(NAME).await.ok()?;
            let mut tables = described.tables.iter();
            tables.any(|table| table.lag == 0).then_some(())
        })
        .await;
        self.ask(&["place pdx", "secret api-key"]).await;
        assert_eq!(self.found(7).await[5..], ["none", "hunter3"]);
    }

    /// A host that does not answer at first, and one that says that it cannot, are asked again; what would be
    /// the same another time is given up at once.
    async fn asks(&self) {
        let ask = |path: &str| format!("ask {}", self.server.url(path));
        self.ask(&[&ask("/here?a=b"), &ask("/once")]).await;
        self.ask(&[&ask("/status/404"), &ask("/status/503")]).await;
        self.ask(&["ask http://127.0.0.1:1", "ask nowhere"]).await;
        let mut found = self.found(9).await.split_off(7);
        found.sort();
        assert_eq!(
            found,
            ["/here?a=b hello, 15 bytes", "/once hello, 11 bytes"]
        );
        let given_up = self.given_up(5).await.join("\n");
        for reason in [
            "the response has the status 404",
            "the response has the status 503",
            "requests to http://127.0.0.1:1 are not granted",
            "no request: the address",
        ] {
            assert!(given_up.contains(reason), "{reason}: {given_up}");
        }
        let times = |path| self.server.times(path);
        assert_eq!([times("/status/404"), times("/status/503")], [1, 2]);
        assert_eq!([times("/here?a=b"), times("/once")], [1, 2]);
        let asked = self.server.asked();
        let here = asked
            .iter()
            .find(|asked| asked.path == "/here?a=b")
            .unwrap();
        assert_eq!(
            (here.method.as_str(), here.body.as_str()),
            ("POST", "hello")
        );
        assert_eq!(here.headers["x-key"], "hunter3");
    }
}

async fn has_use_of_what_it_is_given(marker: &str, source: &str) {
    let Some(reader) = Reader::start(marker, source).await else {
        return;
    };
    reader.is_deployed_nowhere_else();
    reader.reads_and_follows().await;
    reader.asks().await;
}

#[tokio::test]
async fn a_plugin_in_python_has_use_of_what_it_is_given() {
    has_use_of_what_it_is_given("plugin.py", IN_PYTHON).await;
}

#[tokio::test]
async fn a_plugin_in_javascript_has_use_of_what_it_is_given() {
    has_use_of_what_it_is_given("plugin.js", IN_JAVASCRIPT).await;
}

#[tokio::test]
async fn a_plugin_in_c_has_use_of_what_it_is_given() {
    has_use_of_what_it_is_given("plugin.c", IN_C).await;
}
