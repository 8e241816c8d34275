//! A broker: a child process with a folder, a profile and a port of its own.

use std::ffi::OsString;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use millstream::{Client, ClientBuilder, Profile, TransportConfig};
use millstream_port::Port;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::artifacts::millstream;
use crate::broker_log::BrokerLog;
use crate::patience::{until_blocking, within};
use crate::process::Process;

/// A client that has not heard the broker for this long looks for it anew. The default is made for
/// bad links; a test that kills brokers by the dozen has none.
const SHORT_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// `millstream dev` as a child process. Dropping it kills the process and removes its folder.
#[derive(Debug)]
pub struct Broker {
    // Dropped in this order: the folder goes when nobody writes into it any more.
    process: Option<Process>,
    port: Port,
    /// What stands in front of the program's name, if anything.
    wrapper: Vec<OsString>,
    /// What it is told beside the usual.
    options: Vec<OsString>,
    /// What its environment has beside the test's own.
    environment: Vec<(OsString, OsString)>,
    folder: TempDir,
}

/// A broker that may not be ready yet.
#[derive(Debug)]
struct Starting {
    process: Process,
    stdout: ChildStdout,
}

impl Broker {
    /// Starts a broker on an empty folder and waits until clients can connect.
    pub fn start() -> Self {
        Self::launch_first(|_| Vec::new(), Vec::new(), Vec::new())
    }

    /// The same, with more options of `millstream dev`.
    pub fn start_with<S: Into<OsString>>(options: impl IntoIterator<Item = S>) -> Self {
        let options = options.into_iter().map(Into::into).collect();
        Self::launch_first(|_| Vec::new(), options, Vec::new())
    }

    /// The same as [`start`](Self::start), with a variable more in its environment.
    pub fn start_with_variable(name: &str, value: impl Into<OsString>) -> Self {
        let environment = vec![(name.into(), value.into())];
        Self::launch_first(|_| Vec::new(), Vec::new(), environment)
    }

    /// Starts it by another program, which is given the broker's command line behind its own:
    /// `wrapper` makes that of the directory with the broker's own data.
    pub fn start_within<S: Into<OsString>>(
        wrapper: impl FnOnce(&Path) -> Vec<OsString>,
        options: impl IntoIterator<Item = S>,
    ) -> Self {
        let options = options.into_iter().map(Into::into).collect();
        Self::launch_first(wrapper, options, Vec::new())
    }

    fn launch_first(
        wrapper: impl FnOnce(&Path) -> Vec<OsString>,
        options: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
    ) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("millstream-e2e-")
            .tempdir()
            .expect("a folder");
        let mut broker = Self {
            process: None,
            port: Port::reserve().expect("a free port"),
            wrapper: Vec::new(),
            options,
            environment,
            folder,
        };
        fs::create_dir_all(broker.broker_dir()).expect("a folder for the broker");
        broker.wrapper = wrapper(&broker.broker_dir());
        broker.restart();
        broker
    }

    /// Starts it again, on the same folder and port, and waits until clients can connect.
    pub fn restart(&mut self) {
        let mut starting = self.launch();
        let mut said = serde_json::Deserializer::from_reader(BufReader::new(&mut starting.stdout))
            .into_iter::<serde_json::Value>();
        let ready = said.next();
        let is_ready = matches!(&ready, Some(Ok(ready)) if ready["address"] == self.address());
        assert!(
            is_ready,
            "the broker is not ready: {ready:?}; its log:\n{}",
            self.log()
        );
        self.process = Some(starting.process);
    }

    /// Starts it again on the same folder and port, as `millstream server` with these `[workers]`
    /// settings, and waits until it is ready.
    pub fn restart_as_server(&mut self, workers: &str) {
        let config = self.folder.path().join("millstream.toml");
        let path = |path: PathBuf| toml_string(&path);
        let text = format!(
            "listen = {:?}\ndata_dir = {}\n[identity]\ncertificate = {}\nkey = {}\nca = {}\n[workers]\n{workers}\n",
            self.address(),
            path(self.broker_dir()),
            path(self.identity_file("server.pem")),
            path(self.identity_file("server.key")),
            path(self.identity_file("authority.pem")),
        );
        fs::write(&config, text).expect("a configuration file");
        let said = self.log().len();
        let mut command = Command::new(millstream());
        self.apply_environment(&mut command);
        command
            .args(["server", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(self.broker_log().file());
        self.process = Some(Process::spawn(&mut command));
        until_blocking("a server that is ready", || {
            self.log()[said..].contains("broker ready").then_some(())
        });
    }

    /// Starts it again and kills it when it has computed for this long, or when it is ready.
    pub fn restart_and_kill_after(&mut self, moment: Duration) {
        let said = self.log().len();
        let mut starting = self.launch();
        until_blocking("a broker on its way", || {
            let far = starting.process.processor_time() >= moment;
            (far || self.log()[said..].contains(": ready")).then_some(())
        });
        starting.process.kill();
    }

    fn launch(&self) -> Starting {
        assert!(self.process.is_none(), "the broker runs already");
        let mut command = match self.wrapper.split_first() {
            Some((wrapper, args)) => {
                let mut command = Command::new(wrapper);
                command.args(args).arg(millstream());
                command
            }
            None => Command::new(millstream()),
        };
        self.apply_environment(&mut command);
        command
            .args(["dev", "--output", "json", "-v", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen", &self.address()])
            // It ends with this process, however that ends.
            .arg("--until-stdin-closes")
            .args(&self.options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(self.broker_log().file());
        let mut process = Process::spawn(&mut command);
        let stdout = process.child().stdout.take().expect("a pipe");
        Starting { process, stdout }
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("a broker that runs")
    }

    /// Kills it (SIGKILL), at whatever it is doing.
    pub fn kill(&mut self) {
        assert!(
            self.running().is_running(),
            "the broker ended by itself; its log:\n{}",
            self.log()
        );
        self.running().kill();
        self.process = None;
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.running().wait();
        self.process = None;
        status
    }

    /// The processor time that it has taken since it was started.
    pub fn processor_time(&self) -> Duration {
        let process = self.process.as_ref();
        process.map_or(Duration::ZERO, Process::processor_time)
    }

    /// Its process id.
    pub fn process_id(&mut self) -> u32 {
        self.running().id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.running().is_running()
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        self.port.address().to_string()
    }

    /// The folder of everything that the test makes; it goes with the broker.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it was told to keep its data in.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where its logs and metadata lie.
    pub fn broker_dir(&self) -> PathBuf {
        self.data_dir().join("broker")
    }

    /// A file of the development authority: `authority.pem`, `client.key`, and so on.
    pub fn identity_file(&self, name: &str) -> PathBuf {
        self.data_dir().join("identity").join(name)
    }

    fn broker_log(&self) -> BrokerLog {
        BrokerLog(self.folder.path().join("broker.log"))
    }

    /// What it has logged since it was started first.
    pub fn log(&self) -> String {
        self.broker_log().text()
    }

    /// The client profile.
    pub fn profile(&self) -> Profile {
        Profile::load(&self.profile_path()).expect("the profile that the broker has written")
    }

    /// The file of the client profile.
    pub fn profile_path(&self) -> PathBuf {
        self.data_dir().join("profile.toml")
    }

    /// A client with the settings that an application has.
    pub async fn client(&self) -> Client {
        self.connect(Client::builder()).await
    }

    /// A client that notices sooner that the broker is gone.
    pub async fn quick_client(&self) -> Client {
        let transport = TransportConfig {
            max_idle_timeout: SHORT_IDLE_TIMEOUT,
            ..TransportConfig::client()
        };
        self.connect(Client::builder().transport(transport)).await
    }

    /// A client that asks no longer than this for what the broker says is not ready.
    pub async fn impatient_client(&self, request_timeout: Duration) -> Client {
        self.connect(Client::builder().request_timeout(request_timeout))
            .await
    }

    async fn connect(&self, builder: ClientBuilder) -> Client {
        let builder = builder
            .profile(&self.profile())
            .expect("a profile with an identity");
        let connected = within("connecting", builder.connect()).await;
        connected
            .unwrap_or_else(|error| panic!("cannot connect: {error}; the log:\n{}", self.log()))
    }

    /// The program with the broker's profile: `broker.command(["topic", "list"])`.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(millstream());
        self.apply_environment(&mut command);
        command.args(args);
        command
    }

    /// The user's own profile, data and settings are neither used nor touched.
    fn apply_environment(&self, command: &mut Command) {
        command
            .env("MILLSTREAM_PROFILE", self.profile_path())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("XDG_DATA_HOME", self.folder.path().join("share"))
            .env_remove("MILLSTREAM_LOG")
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().cloned());
    }
}

/// A path as a file in TOML has it.
fn toml_string(path: &Path) -> String {
    format!("{:?}", path.to_str().expect("a folder with a plain name"))
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.broker_log().show_if_failing();
    }
}
