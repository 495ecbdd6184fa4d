//! `twinward try`: a loopback IoT Hub and the real agent in one process, and everything that happens, as it happens.
//!
//! The agent is configured as a user would: by a file, a secret and a CA in a directory of its own, which goes when the
//! try ends. It dials 127.0.0.1 over TCP and TLS. Only the hub is a stand-in.

#![expect(clippy::indexing_slicing, reason = "indexing a JSON value by name gives null for what is absent")]

mod prompt;
mod render;
mod screen;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::agent::{CoreStatus, Handle};
use crate::lab::{Lab, LabOptions, MethodError, MethodReply, Observed};
use crate::settings::{load, twin_keys::OBJECT};
use crate::sys::{crash, files, hardening};

use super::args::Global;
use super::{exit, identity, log, run, signals};
use prompt::Order;
use screen::Screen;

/// What the default twin is changed to, so that something is seen within seconds.
const SHORT: [(&str, &str); 4] = [
    ("highPriorityMessageFrequency", "PT2S"),
    ("lowPriorityMessageFrequency", "PT4S"),
    ("snapshotFrequency", "PT15S"),
    ("aggregationIntervalProcessCreate", "PT3S"),
];
/// How often a harmless program is started, so that a quiet machine has something to show.
const EXAMPLE_EVERY: Duration = Duration::from_secs(5);
/// How long a change may take until the agent reports it.
const REPORT_LIMIT: Duration = Duration::from_secs(10);
/// How long the last messages may take.
const LAST_MESSAGES: Duration = Duration::from_secs(3);

/// Arguments of `twinward try`.
#[derive(Debug, ClapArgs)]
pub struct TryArgs {
    /// Change a twin property once the agent has reported; may be given several times, applied in order.
    #[arg(long, value_name = "KEY=VALUE", value_parser = prompt::assignment)]
    set: Vec<(String, Value)>,
    /// End after this time, for example 30s or 2m; without it, at Ctrl-C or `quit`.
    #[arg(long = "for", value_name = "DURATION", value_parser = prompt::duration)]
    duration: Option<Duration>,
}

/// Runs hub and agent until the time is over, Ctrl-C, or `quit`.
pub(super) fn run(args: &TryArgs, global: &Global) -> anyhow::Result<u8> {
    log::init(crate::settings::LogLevel::Warn, None);
    hardening::keep_files_private();
    let directory = Directory::make()?;
    let screen = Screen::new(global.json);
    let outcome = run::runtime()?.block_on(session(args, &directory, &screen));
    let last = outcome?;
    screen.balance(&last)?;
    let balance = &last.balance;
    let dropped = balance.high.dropped_total() + balance.low.dropped_total();
    Ok(if balance.holds() && dropped == 0 { exit::OK } else { exit::FAILED })
}

async fn session(args: &TryArgs, directory: &Directory, screen: &Screen) -> anyhow::Result<CoreStatus> {
    let mut desired = crate::lab::default_desired();
    for (key, value) in SHORT {
        set(&mut desired, key, value);
    }
    let lab = Lab::start(LabOptions { desired, ..LabOptions::default() }).await.context("cannot start the hub")?;
    let lab = Arc::new(lab);
    let mut happenings = lab.observe();
    let config = directory.configure(&lab)?;
    screen.introduction(&lab, &SHORT)?;

    let settings = load::load(&config, std::iter::empty())?;
    crash::install(settings.storage.runtime(), run::clock());
    let identity = identity::read(&settings.identity)?;
    let (agent, handle) = run::build(settings, identity, None)?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(examples(stop.clone()));
    let running = agent.run(handle.clone(), stop.clone());
    let orders = prompt::read_orders()?;
    let mut session = Session {
        lab: &lab,
        handle: &handle,
        screen,
        waiting: args.set.clone().into(),
        asked: None,
        calls: JoinSet::new(),
    };

    let end = args.duration.map(|d| Instant::now() + d);
    let signal = signals::stop_signal();
    tokio::pin!(running, signal);
    let mut orders = Some(orders);
    let mut quitting = false;
    while !quitting || !session.calls.is_empty() {
        let check = session.asked.as_ref().map(|asked| asked.until);
        let listening = !quitting && session.calls.len() < CALLS;
        tokio::select! {
            last = &mut running => return Ok(last?),
            Some(happening) = happenings.recv() => session.on_happening(&happening).await?,
            order = next_order(&mut orders), if listening => match order {
                Some(Order::Quit) => quitting = true,
                Some(order) => session.on_order(order).await?,
                None => {}
            },
            Some(called) = session.calls.join_next() => session.on_answer(called?)?,
            () = sleep_until(check.unwrap_or_else(Instant::now)), if check.is_some() => session.give_up()?,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => break,
            _ = &mut signal => break,
        }
    }
    screen.say("ending: the last messages are sent")?;
    tasks.shutdown().await;
    drop(orders);
    session.calls.shutdown().await;
    let last = finish(&mut session, &mut happenings, running.as_mut(), &stop).await?;
    drop(session);
    if let Some(lab) = Arc::into_inner(lab) {
        lab.shutdown().await;
    }
    Ok(last)
}

/// Sends what waits, ends the agent, and shows what still arrives.
async fn finish<F>(
    session: &mut Session<'_>,
    happenings: &mut mpsc::Receiver<Observed>,
    mut running: std::pin::Pin<&mut F>,
    stop: &CancellationToken,
) -> anyhow::Result<CoreStatus>
where
    F: Future<Output = Result<CoreStatus, crate::agent::AgentError>>,
{
    session.handle.flush().await?;
    let until = Instant::now() + LAST_MESSAGES;
    loop {
        if !stop.is_cancelled() {
            let status = session.handle.status().await?.core;
            if status.in_flight == 0 && status.high.records == 0 && status.low.records == 0 {
                stop.cancel();
            }
        }
        tokio::select! {
            last = &mut running => return Ok(last?),
            Some(happening) = happenings.recv() => session.on_happening(&happening).await?,
            () = sleep_until(until), if !stop.is_cancelled() => stop.cancel(),
        }
    }
}

async fn next_order(orders: &mut Option<mpsc::Receiver<Order>>) -> Option<Order> {
    let Some(receiver) = orders else { return std::future::pending().await };
    let order = receiver.recv().await;
    if order.is_none() {
        // Standard input has ended; the try goes on.
        *orders = None;
    }
    order
}

fn set(section: &mut Map<String, Value>, key: &str, value: &str) {
    if let Some(object) = section.get_mut(OBJECT).and_then(Value::as_object_mut) {
        object.insert(key.to_owned(), json!({ "value": value }));
    }
}

/// A change that was asked for and is not reported yet.
struct Asked {
    key: String,
    value: Value,
    version: u64,
    until: Instant,
}

/// A call of a direct method, and what came of it.
type Called = (String, Result<MethodReply, MethodError>);

struct Session<'a> {
    lab: &'a Arc<Lab>,
    handle: &'a Handle,
    screen: &'a Screen,
    waiting: std::collections::VecDeque<(String, Value)>,
    asked: Option<Asked>,
    /// Calls without an answer: the agent, which has to give it, runs in the same task as the orders are read.
    calls: JoinSet<Called>,
}

impl Session<'_> {
    async fn on_happening(&mut self, happening: &Observed) -> anyhow::Result<()> {
        self.screen.happening(happening)?;
        if matches!(happening.what, crate::lab::Happening::Reported { .. }) {
            self.judge().await?;
            self.ask_next()?;
        }
        Ok(())
    }

    /// Applies the next change, if none is under way.
    fn ask_next(&mut self) -> anyhow::Result<()> {
        if self.asked.is_some() {
            return Ok(());
        }
        if let Some((key, value)) = self.waiting.pop_front() {
            let patch = json!({ OBJECT: { key.as_str(): { "value": value } } });
            match self.lab.patch_desired(patch) {
                Ok(version) => {
                    self.screen.say(&format!("twin changed: {key} = {value} (version {version})"))?;
                    self.asked = Some(Asked { key, value, version, until: Instant::now() + REPORT_LIMIT });
                }
                Err(error) => self.screen.say(&format!("the hub refuses {key} = {value}: {error}"))?,
            }
        }
        Ok(())
    }

    /// Looks whether the change under way was reported, and says what became of it.
    async fn judge(&mut self) -> anyhow::Result<()> {
        let reported = self.lab.reported();
        let Some(asked) =
            self.asked.take_if(|asked| reported["twinward"]["desiredVersion"].as_u64() >= Some(asked.version))
        else {
            return Ok(());
        };
        let problems = reported["twinward"]["problems"].as_array().cloned().unwrap_or_default();
        let verdict = match problems.iter().find(|p| p["key"] == asked.key.as_str()) {
            Some(problem) => format!(
                "{}: {} = {}; expected {}; in force: {}",
                if problem["kind"] == "TypeMismatch" { "refused" } else { "doubtful" },
                asked.key,
                asked.value,
                problem["expected"].as_str().unwrap_or_default(),
                problem["inForce"].as_str().unwrap_or_default()
            ),
            None => format!("applied and reported: {} = {}", asked.key, reported[OBJECT][&asked.key]["value"]),
        };
        self.screen.say(&verdict)?;
        let status = self.handle.status().await?;
        for health in &status.collectors {
            self.screen.health(health)?;
        }
        Ok(())
    }

    fn give_up(&mut self) -> anyhow::Result<()> {
        if let Some(asked) = self.asked.take() {
            self.screen.say(&format!("not reported within {} s: {}", REPORT_LIMIT.as_secs(), asked.key))?;
        }
        self.ask_next()
    }

    async fn on_order(&mut self, order: Order) -> anyhow::Result<()> {
        match order {
            Order::Set(key, value) => {
                self.waiting.push_back((key, value));
                self.ask_next()
            }
            Order::Call(name, payload) => {
                let lab = Arc::clone(self.lab);
                self.calls.spawn(async move {
                    let reply = lab.invoke_method(&name, &payload, CALL_LIMIT).await;
                    (name, reply)
                });
                Ok(())
            }
            Order::Twin => self.screen.twin(&self.lab.desired(), &self.lab.reported()),
            Order::Status => {
                let status = self.handle.status().await?;
                for health in &status.collectors {
                    self.screen.health(health)?;
                }
                self.screen.balance(&status.core)
            }
            Order::Wrong(what) => self.screen.say(&what),
            Order::Quit => Ok(()),
        }
    }

    fn on_answer(&self, (name, reply): Called) -> anyhow::Result<()> {
        match reply {
            Ok(reply) => self.screen.say(&format!("{name} answered {}: {}", reply.status, reply.payload)),
            Err(error) => self.screen.say(&format!("{name}: {error}")),
        }
    }
}

/// Longest wait for the answer of a direct method.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Most calls that wait at once; further orders are read later.
const CALLS: usize = 8;

/// Starts `sleep 2` now and then.
async fn examples(stop: CancellationToken) {
    let forever = async {
        loop {
            // The wait also reaps the child.
            let example = tokio::task::spawn_blocking(|| {
                #[expect(clippy::disallowed_methods, reason = "a fixed, harmless program to look at; never in `run`")]
                std::process::Command::new("sleep").arg("2").status()
            });
            if example.await.is_err() {
                return;
            }
            tokio::time::sleep(EXAMPLE_EVERY.saturating_sub(Duration::from_secs(2))).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = forever => {}
    }
}

/// A directory of the try's own; removed when it ends.
struct Directory(PathBuf);

impl Directory {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("twinward-try-{}", crate::model::ids::EventId::random()));
        // Not recursive: it must be new, or somebody else prepared it.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {}; set TMPDIR to a directory you can write", path.display()))?;
        Ok(Self(path))
    }

    fn configure(&self, lab: &Lab) -> anyhow::Result<PathBuf> {
        let file = |name: &str, content: &str| -> anyhow::Result<PathBuf> {
            let path = self.0.join(name);
            files::write_atomic(&path, content.as_bytes(), 0o600)
                .with_context(|| format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        let secret = file("connection-string", &lab.connection_string())?;
        let ca = file("ca.pem", lab.ca_pem())?;
        file("twinward.toml", &configuration(&secret, &ca, &self.0.join("state"), lab.port()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, directory = %self.0.display(), "cannot remove the try's directory");
        }
    }
}

fn configuration(secret: &Path, ca: &Path, state: &Path, port: u16) -> String {
    // A JSON string is a TOML basic string.
    let text = |path: &Path| Value::String(path.display().to_string()).to_string();
    format!(
        "[identity]\nconnection_string_file = {}\n[hub]\nhost = \"127.0.0.1\"\nport = {port}\nca_file = {}\n\
         [storage]\ndirectory = {}\n[log]\nlevel = \"warn\"\n",
        text(secret),
        text(ca),
        text(state)
    )
}
