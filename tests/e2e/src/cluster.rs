//! A cluster: brokers as child processes, made as an operator makes them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use millstream::{Client, Profile};
use millstream_port::Port;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::artifacts::millstream;
use crate::broker_log::BrokerLog;
use crate::command::{Finished, run};
use crate::patience::{until_blocking, within};
use crate::process::Process;

/// A cluster in a folder of its own. Dropping it kills its brokers and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: the folder goes when nobody writes into it any more.
    members: Vec<Member>,
    folder: TempDir,
}

/// One of its brokers, running or not.
#[derive(Debug)]
pub struct Member {
    process: Option<Process>,
    port: Port,
    /// Where its configuration and its data are.
    folder: PathBuf,
    /// What its command line begins with.
    within: Vec<OsString>,
    /// The length of its log when it was started last.
    said: usize,
}

impl Cluster {
    /// Makes a cluster, and starts its first broker.
    pub fn start() -> Self {
        let mut cluster = Self::init(Port::reserve().expect("a free port"), &[]);
        cluster.members[0].start();
        cluster
    }

    /// Makes a cluster, and does not start its first broker, which listens at this port.
    pub fn init(port: Port, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("millstream-e2e-").tempdir();
        let mut cluster = Self {
            members: Vec::new(),
            folder: folder.expect("a folder"),
        };
        let (dir, listen) = (cluster.dir(), port.address().to_string());
        let init = ["cluster", "init", "--dir", &dir, "--listen", &listen];
        cluster.run(init.iter().chain(options)).success();
        cluster
            .members
            .push(Member::new(port, cluster.folder_of(1)));
        cluster
    }

    /// The same, with more brokers that join it one after the other.
    pub fn of(brokers: usize) -> Self {
        let mut cluster = Self::start();
        while cluster.members.len() < brokers {
            let number = cluster.invite(&[]);
            cluster.member(number).start();
        }
        cluster
    }

    /// Makes a further broker, and does not start it. Returns its number, which is the next.
    pub fn invite(&mut self, options: &[&str]) -> usize {
        self.invite_at(Port::reserve().expect("a free port"), options)
    }

    /// The same with a broker that listens at this port.
    pub fn invite_at(&mut self, port: Port, options: &[&str]) -> usize {
        let (dir, listen) = (self.dir(), port.address().to_string());
        let join = ["cluster", "join", "--dir", &dir, "--listen", &listen];
        let join = join
            .iter()
            .chain(["--output", "json"].iter())
            .chain(options);
        let joined = self.run(join.copied()).success().json();
        let number = self.members.len() + 1;
        assert_eq!(joined["broker_id"], number, "{joined}");
        self.members.push(Member::new(port, self.folder_of(number)));
        number
    }

    /// A broker by its number.
    pub fn member(&mut self, number: usize) -> &mut Member {
        &mut self.members[number - 1]
    }

    /// A further broker with the files in `folder`, which listens elsewhere than its configuration says so far.
    pub fn stranger(&self, folder: &Path) -> Member {
        let port = Port::reserve().expect("a free port");
        let config = folder.join("millstream.toml");
        let text = fs::read_to_string(&config).expect("a configuration");
        let lines = text.lines().map(|line| match line.split_once(" = ") {
            Some((name @ ("listen" | "advertise"), _)) => {
                format!("{name} = {:?}\n", port.address().to_string())
            }
            _ => format!("{line}\n"),
        });
        fs::write(&config, lines.collect::<String>()).expect("a configuration that can be changed");
        Member::new(port, folder.to_owned())
    }

    /// The operator's folder.
    pub fn dir(&self) -> String {
        let dir = self.folder.path().join("cluster");
        dir.to_str().expect("a folder with a plain name").to_owned()
    }

    /// A place for what a test makes beside it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where all is that a broker is started with.
    pub fn folder_of(&self, number: usize) -> PathBuf {
        Path::new(&self.dir()).join(format!("broker-{number}"))
    }

    /// The program with the operator's profile.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(millstream());
        let profile = Path::new(&self.dir()).join("profile.toml");
        command
            .args(args)
            .env("MILLSTREAM_PROFILE", profile)
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env_remove("MILLSTREAM_LOG")
            .env_remove("RUST_LOG");
        command
    }

    /// Where a broker listens.
    pub fn address(&self, number: usize) -> String {
        self.members[number - 1].port.address().to_string()
    }

    /// Runs it to its end.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        run(&mut self.command(args))
    }

    /// How the cluster stands, as one of its brokers says.
    pub fn status(&self, from: usize) -> Value {
        let address = self.address(from);
        let args = [
            "cluster",
            "status",
            "--output",
            "json",
            "--address",
            &address,
        ];
        self.run(args).success().json()
    }

    /// Waits until one of its brokers says that this is so.
    pub fn until(
        &self,
        from: usize,
        what: &str,
        holds: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Value {
        let mut last = Value::Null;
        until_blocking(what, || {
            last = self.status(from);
            holds(&last).then(|| last.clone())
        })
    }

    /// Waits until all is well with so many brokers, each of which has a vote or hears of everything.
    pub fn until_well(&self, from: usize, brokers: usize) -> Value {
        self.until(from, "a cluster in which all is well", |status| {
            let listed = status["brokers"].as_array().expect("brokers");
            let take_part = listed.iter().all(|it| it["quorum"] != "none");
            listed.len() == brokers && take_part && status["problems"] == Value::Array(Vec::new())
        })
    }

    /// A client of one of the brokers.
    pub async fn client(&self, number: usize) -> Client {
        self.client_of(self.address(number)).await
    }

    /// A client that is told of this address alone.
    pub async fn client_of(&self, address: String) -> Client {
        let profile = Profile::load(&Path::new(&self.dir()).join("profile.toml"));
        let mut profile = profile.expect("a profile");
        profile.addresses = vec![address];
        let builder = Client::builder().profile(&profile).expect("an identity");
        within("connecting", builder.connect())
            .await
            .expect("a broker that answers")
    }
}

impl Member {
    fn new(port: Port, folder: PathBuf) -> Self {
        Self {
            process: None,
            port,
            folder,
            within: Vec::new(),
            said: 0,
        }
    }

    /// Begins its command line with this from the next start on. What it begins with must become the broker.
    pub fn starts_within(&mut self, words: Vec<OsString>) {
        self.within = words;
    }

    /// The process that runs.
    pub fn process_id(&mut self) -> u32 {
        self.running().id()
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Starts it, and waits until it is ready.
    pub fn start(&mut self) {
        self.launch();
        self.until_ready();
    }

    /// Waits until it is ready, after it was launched.
    pub fn until_ready(&mut self) {
        let said = self.said;
        until_blocking("a broker that is ready", || {
            let log = self.log();
            assert!(self.is_running(), "it ended by itself:\n{log}");
            log[said..].contains("broker ready").then_some(())
        });
    }

    /// Waits until it says this, after it was launched.
    pub fn until_it_says(&self, words: &str) {
        until_blocking(words, || {
            self.log()[self.said..].contains(words).then_some(())
        });
    }

    /// Starts it.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "the broker runs already");
        self.said = self.log().len();
        let words = self.within.iter().map(OsString::as_os_str);
        let mut words = words.chain([millstream().as_os_str()]);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args(["server", "--config"])
            .arg(self.folder.join("millstream.toml"))
            .env_remove("MILLSTREAM_LOG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(self.broker_log().file());
        self.process = Some(Process::spawn(&mut command));
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("a broker that runs")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.running().is_running()
    }

    /// Kills it (SIGKILL), at whatever it is doing.
    pub fn kill(&mut self) {
        assert!(self.is_running(), "it ended by itself:\n{}", self.log());
        self.running().kill();
        self.process = None;
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert!(
            self.wait().success(),
            "it stops as it should:\n{}",
            self.log()
        );
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let process = self.running();
        until_blocking("a broker that ends", || {
            (!process.is_running()).then_some(())
        });
        let status = self.running().wait();
        self.process = None;
        status
    }

    /// Starts it, which the cluster refuses: it ends with this exit code, and says why.
    pub fn refused(&mut self, code: i32) -> String {
        let said = self.log().len();
        self.launch();
        let status = self.wait();
        let log = self.log()[said..].to_owned();
        assert_eq!(status.code(), Some(code), "{log}");
        log
    }

    fn broker_log(&self) -> BrokerLog {
        BrokerLog(self.folder.join("broker.log"))
    }

    /// What it has logged since it was started first.
    pub fn log(&self) -> String {
        self.broker_log().text()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.broker_log().show_if_failing();
    }
}
