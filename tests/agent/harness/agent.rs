//! The built program in a place of its own.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use twinward::control::{self, Request};
use twinward::lab::Lab;

use super::{Hub, LIMIT, eventually};

/// Directories and configuration of one agent.
pub struct Place {
    root: TempDir,
}

impl Place {
    /// Configured for the module that the lab was started with.
    pub fn new(lab: &Lab) -> Self {
        Self::with(&lab.connection_string(), lab.port(), lab.ca_pem(), "info")
    }

    pub fn with(connection_string: &str, port: u16, ca_pem: &str, level: &str) -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        place.write("connection-string", connection_string, 0o600);
        place.write("ca.pem", ca_pem, 0o644);
        let text = |name: &str| Value::String(place.path(name).display().to_string()).to_string();
        let config = format!(
            "[identity]\nconnection_string_file = {}\n[hub]\nhost = \"127.0.0.1\"\nport = {port}\nca_file = {}\n\
             [storage]\ndirectory = {}\nruntime_directory = {}\n[collect]\nprocess_source = \"poll\"\n\
             [log]\nlevel = \"{level}\"\ndiagnostic_level = \"off\"\n",
            text("connection-string"),
            text("ca.pem"),
            text("state"),
            text("run"),
        );
        place.write("twinward.toml", &config, 0o600);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Changes the configuration.
    pub fn edit(&self, from: &str, to: &str) {
        let before = fs::read_to_string(self.path("twinward.toml")).unwrap();
        assert!(before.contains(from), "{before}");
        self.write("twinward.toml", &before.replace(from, to), 0o600);
    }

    /// Runs a command of the program to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.path("twinward.toml"), arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Starts the agent.
    pub fn start(self) -> Agent {
        self.start_with(&[])
    }

    /// Starts the agent with variables in its environment.
    pub fn start_with(self, environment: &[(&str, &str)]) -> Agent {
        let child = spawn(&self, environment);
        Agent { child, place: self }
    }
}

/// Runs the program to its end without a configuration.
pub async fn run(arguments: &[&str], environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinward"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(environment.iter().copied());
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinward"));
    command.args(arguments).arg("--config").arg(config).env_clear().stdin(Stdio::null());
    command
}

fn spawn(place: &Place, environment: &[(&str, &str)]) -> Child {
    let log: File = OpenOptions::new().create(true).append(true).open(place.path("log")).unwrap();
    let mut command = command(&place.path("twinward.toml"), &["run"]);
    command.envs(environment.iter().copied()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A running agent. Dropping it kills it.
pub struct Agent {
    child: Child,
    place: Place,
}

impl Agent {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Everything it said, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path("log")).unwrap()
    }

    /// The lines of its log that hold this.
    pub fn lines(&self, words: &str) -> Vec<String> {
        self.log().lines().filter(|line| line.contains(words)).map(str::to_owned).collect()
    }

    /// Waits for a line that holds this.
    pub async fn says(&mut self, words: &str) -> String {
        eventually(&format!("in the log: {words}"), || {
            let found = self.lines(words).pop();
            if found.is_none() {
                self.assert_running();
            }
            std::future::ready(found)
        })
        .await
    }

    pub fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the agent ended with {status}:\n{}", self.log());
        }
    }

    /// Asks over the control socket; `None` if nobody answers there yet.
    pub async fn ask(&self, request: Request) -> Option<Value> {
        let path = control::socket_path(&self.place.path("run"));
        tokio::task::spawn_blocking(move || control::ask(&path, request).ok()).await.unwrap()
    }

    /// Waits until the status has an answer.
    pub async fn status<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        eventually(what, || async { find(&self.ask(Request::Status).await?) }).await
    }

    /// Waits until the link is ready.
    pub async fn linked(&self) {
        self.status("the link", |status| (status["link"]["state"] == "ready").then_some(())).await;
    }

    /// Waits until everything collected is acknowledged, without waiting for the frequencies; gives the status of that
    /// moment.
    pub async fn delivered(&self) -> Value {
        eventually("everything is delivered", || async {
            assert_eq!(self.ask(Request::Flush).await?, json!({"flushing": true}));
            let status = self.ask(Request::Status).await?;
            let pending = |queue: &str| status["balance"][queue]["pending"].as_u64().unwrap();
            (pending("high") + pending("low") == 0 && status["inFlight"] == 0).then_some(status)
        })
        .await
    }

    /// Waits until everything is delivered, and judges the books of both sides: nothing is lost, nothing is counted
    /// twice.
    pub async fn books_agree(&self, hub: &mut Hub) {
        let mut last = (0, 0);
        let end = tokio::time::Instant::now() + LIMIT;
        while last.0 == 0 || last.0 != last.1 {
            assert!(tokio::time::Instant::now() < end, "(hits at the hub, delivered by the agent): {last:?}");
            // Something new may come between the two looks; then they are taken again.
            let status = self.delivered().await;
            last = (hub.hits(), balance_holds(&status));
        }
        assert!(!self.log().contains("panicked"), "{}", self.log());
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the end of the agent", || std::future::ready(self.child.try_wait().unwrap())).await
    }

    /// SIGTERM, and waits for a good end.
    pub async fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again in the same place.
    pub fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it runs");
        self.child = spawn(&self.place, &[]);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already; its own child is all that is ever killed here.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{}", fs::read_to_string(self.place.path("log")).unwrap_or_default());
        }
    }
}

/// Judges the balance in a status: it adds up and nothing was dropped. Gives what was delivered.
pub fn balance_holds(status: &Value) -> u64 {
    let mut sum = 0;
    for queue in ["high", "low"] {
        let account = &status["balance"][queue];
        let of = |name: &str| account[name].as_u64().unwrap();
        assert_eq!(account["dropped"], json!({}), "{queue}: {account}");
        assert_eq!(of("collected"), of("delivered") + of("pending"), "{queue}: {account}");
        sum += of("delivered");
    }
    sum
}
