//! Components are compiled in a child with limits, once; what is kept of them is not trusted.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use millstream::{Admin, DeploymentSpec, ErrorCode, OutputSpec};
use millstream_e2e::artifacts::quake_alert;
use millstream_e2e::broker::Broker;
use millstream_e2e::patience::until;

const NAME: &str = "quake-alert";

/// No component compiles within these.
const NOTHING_COMPILES: &str = "compile_time_ms = 1";

fn component() -> Bytes {
    fs::read(quake_alert()).expect("the component").into()
}

fn spec() -> DeploymentSpec {
    DeploymentSpec {
        inputs: vec!["earthquakes".to_owned()],
        outputs: vec![OutputSpec {
            name: "alerts".to_owned(),
            topic: "alerts".to_owned(),
        }],
        ..DeploymentSpec::new(NAME)
    }
}

async fn start() -> Broker {
    let broker = Broker::start();
    let admin = broker.quick_client().await.admin();
    admin.create_topic("earthquakes").await.unwrap();
    admin.create_topic("alerts").await.unwrap();
    broker
}

async fn admin(broker: &Broker) -> Admin {
    broker.quick_client().await.admin()
}

async fn works(admin: &Admin) {
    until("a worker", async || {
        let described = admin.describe_plugin(NAME).await.ok()?;
        (!described.workers.is_empty()).then_some(())
    })
    .await;
}

fn compiled(broker: &Broker) -> PathBuf {
    broker.broker_dir().join("compiled")
}

/// The one file of the cache.
fn kept(broker: &Broker) -> PathBuf {
    let mut files = fs::read_dir(compiled(broker)).unwrap();
    let file = files.next().expect("a compiled component").unwrap().path();
    assert!(files.next().is_none(), "another compiled component");
    file
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// A valid component with one function of so many additions.
fn bomb(additions: usize) -> Vec<u8> {
    let body = "local.get 0 ".to_owned() + &"local.get 0 i64.add ".repeat(additions);
    let function = format!("(func (param i64) (result i64) {body})");
    wat::parse_str(format!("(component (core module {function}))")).unwrap()
}

#[tokio::test]
async fn a_component_that_takes_too_much_to_compile_is_refused_and_changes_nothing() {
    let mut broker = start().await;
    for (settings, message) in [
        (
            NOTHING_COMPILES,
            "the component does not compile: it takes longer than 1 ms",
        ),
        (
            "compile_memory_bytes = 536870912",
            "the component does not compile: it takes more than 536870912 bytes of memory",
        ),
    ] {
        broker.kill();
        broker.restart_as_server(settings);
        let admin = admin(&broker).await;
        let refused = admin
            .deploy_plugin(bomb(1_000_000), spec())
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            Some(ErrorCode::CompilationFailed),
            "{refused}"
        );
        assert!(refused.to_string().contains(message), "{refused}");
        assert!(admin.list_plugins().await.unwrap().is_empty());
        assert_eq!(fs::read_dir(compiled(&broker)).unwrap().count(), 0);
    }
    // The same limits are enough for a plugin.
    let admin = admin(&broker).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    works(&admin).await;
}

#[tokio::test]
async fn what_was_compiled_is_used_again_by_the_next_start_and_the_next_deployment() {
    let mut broker = start().await;
    let admin = admin(&broker).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let (file, before) = (kept(&broker), inode(&kept(&broker)));

    broker.kill();
    broker.restart_as_server(NOTHING_COMPILES);
    works(&admin).await;
    let another = DeploymentSpec {
        config: vec![("min-mag".to_owned(), "6".to_owned())],
        ..spec()
    };
    admin.upgrade_plugin(component(), another).await.unwrap();
    assert_eq!((kept(&broker), inode(&file)), (file.clone(), before));

    // It goes with the last deployment that uses it.
    admin.remove_plugin(NAME).await.unwrap();
    assert!(!file.exists());
}

#[tokio::test]
async fn what_is_damaged_or_open_to_others_is_compiled_again() {
    let mut broker = start().await;
    let admin = admin(&broker).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    let file = kept(&broker);
    let whole = fs::read(&file).unwrap();

    broker.kill();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&file, &damaged).unwrap();
    broker.restart();
    works(&admin).await;
    assert_eq!(fs::read(&file).unwrap().len(), whole.len());
    assert_ne!(fs::read(&file).unwrap(), damaged);

    broker.kill();
    fs::set_permissions(compiled(&broker), fs::Permissions::from_mode(0o777)).unwrap();
    let planted = compiled(&broker).join("planted");
    fs::write(&planted, b"").unwrap();
    broker.restart();
    works(&admin).await;
    let made = fs::metadata(compiled(&broker)).unwrap();
    assert_eq!(made.mode() & 0o777, 0o700);
    assert!(!planted.exists(), "what others could write is not kept");
    assert!(kept(&broker).exists());
}

#[tokio::test]
async fn a_deployment_that_does_not_start_says_so_and_is_started_when_it_can() {
    let mut broker = start().await;
    let admin = admin(&broker).await;
    admin.deploy_plugin(component(), spec()).await.unwrap();
    broker.kill();
    fs::remove_dir_all(compiled(&broker)).unwrap();
    broker.restart_as_server(NOTHING_COMPILES);
    for refused in [
        admin.resume_plugin(NAME).await,
        admin.replace_plugin(component(), spec()).await,
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(
            refused.code(),
            Some(ErrorCode::CompilationFailed),
            "{refused}"
        );
    }
    let described = admin.describe_plugin(NAME).await.unwrap();
    assert!(described.workers.is_empty());
    // Compiled by somebody else meanwhile, as far as the broker can see: it has tried again by itself.
    let mut other = start().await;
    let other_admin = other.quick_client().await.admin();
    other_admin
        .deploy_plugin(component(), spec())
        .await
        .unwrap();
    other.kill();
    let folder = compiled(&broker);
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    let from = kept(&other);
    fs::copy(&from, folder.join(from.file_name().unwrap())).unwrap();
    works(&admin).await;
}
