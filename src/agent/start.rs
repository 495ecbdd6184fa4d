//! Building the agent: lock, identity, spool, core thread. Nothing here touches the network.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

use crate::hub::connstr::ConnectionString;
use crate::hub::options::LinkOptions;
use crate::hub::traffic::{ToHub, WINDOW};
use crate::model::event::EventName;
use crate::model::health::CollectorHealth;
use crate::model::ids::AgentId;
use crate::model::message::MessageRoot;
use crate::model::problem::Problem;
use crate::model::time::{Now, Timestamp};
use crate::pipeline::Pipeline;
use crate::settings::Settings;
use crate::settings::agent_config::AgentConfig;
use crate::spool::{Spool, SpoolError, SpoolOptions, Start};
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::{crash, crash_file, files};

use super::configuration::Configuration;
use super::core::{Core, CoreParts, ToCore};
use super::crash_book::CrashBook;
use super::diagnostics;
use super::status::{LinkStatus, Status, TwinStatus};

/// Depth of the queue into the core; a full one makes the source wait, and the kernel's own buffer counts its losses.
const CORE_QUEUE: usize = 64;
/// How long a token lives: what the SDKs take.
const SAS_LIFE: Duration = Duration::from_secs(3600);
/// How often a crash-proof store on tmpfs notes the time.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What an agent is built from.
pub struct AgentOptions {
    /// The local configuration.
    pub settings: Settings,
    /// Who we are at the hub.
    pub identity: ConnectionString,
    /// How TLS is done.
    pub tls: Arc<rustls::ClientConfig>,
    /// The machine that is watched.
    pub host: Host,
    /// The clocks, and the zone of `TimestampLocal`.
    pub clock: Arc<dyn Clock>,
    /// The lines of the log that become Diagnostic events, if any do.
    pub diagnostics: Option<diagnostics::Source>,
}

/// Why an agent cannot start.
#[derive(Debug, Error)]
pub enum AgentError {
    /// Another one works on the same state.
    #[error("another agent works in {0}; stop it first, or give this one a `storage.directory` of its own")]
    Locked(PathBuf),
    /// A directory or file of ours cannot be used.
    #[error("cannot use {path}: {source}; it must belong to the agent's user")]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The spool cannot be opened.
    #[error("cannot open the spool: {0}")]
    Spool(#[from] SpoolError),
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The core ended before its time.
    #[error("the core ended unexpectedly; state is as of its last batch")]
    CoreGone,
}

/// A built agent, ready to run.
pub struct Agent {
    pub(super) settings: Settings,
    pub(super) host: Host,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) link: LinkOptions,
    pub(super) to_hub: mpsc::Sender<ToHub>,
    pub(super) hub_inbox: mpsc::Receiver<ToHub>,
    pub(super) core: flume::Sender<ToCore>,
    pub(super) core_thread: JoinHandle<()>,
    /// Resolves when the core thread ends.
    pub(super) core_gone: oneshot::Receiver<()>,
    /// What crashed in the runs before.
    pub(super) crashes: Arc<CrashBook>,
    pub(super) configuration: Configuration,
    /// Problems of the configuration whose events may have been lost with the last run.
    pub(super) untold: Vec<Problem>,
    pub(super) config: watch::Sender<Arc<AgentConfig>>,
    pub(super) shared: Arc<Shared>,
    pub(super) diagnostics: Option<diagnostics::Source>,
    /// Since when nothing was watched, unless this is the first start.
    pub(super) gap_from: Option<Timestamp>,
    /// Held for as long as the agent lives.
    pub(super) _lock: files::Lock,
}

/// Asks a running agent; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    core: flume::Sender<ToCore>,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

/// What the agent's tasks write and [`Handle::status`] reads.
pub(super) struct Shared {
    agent_id: AgentId,
    started: Now,
    origins: BTreeMap<String, String>,
    pub(super) views: Mutex<Views>,
}

pub(super) struct Views {
    pub(super) link: LinkStatus,
    pub(super) twin: TwinStatus,
    pub(super) health: BTreeMap<EventName, CollectorHealth>,
}

impl Shared {
    fn new(
        agent_id: AgentId,
        now: Now,
        settings: &Settings,
        identity: &ConnectionString,
        configuration: &Configuration,
    ) -> Self {
        Self {
            agent_id,
            started: now,
            origins: settings.origins.iter().map(|(key, origin)| (key.clone(), origin.to_string())).collect(),
            views: Mutex::new(Views {
                link: LinkStatus {
                    state: "connecting",
                    since_utc: now.wall.utc_text(),
                    hub: identity.host_name.clone(),
                    identity: format!("{}/{}", identity.device_id, identity.module_id),
                    error: String::new(),
                },
                twin: TwinStatus {
                    source: configuration.source.as_str(),
                    desired_version: configuration.version,
                    problems: configuration.problems.clone(),
                },
                health: BTreeMap::new(),
            }),
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Views)) {
        change(&mut self.views.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Handle {
    /// The id of this installation.
    #[must_use]
    pub fn agent_id(&self) -> AgentId {
        self.shared.agent_id
    }

    /// How long the agent has been running.
    #[must_use]
    pub fn uptime(&self, now: Now) -> Duration {
        now.mono.since(self.shared.started.mono)
    }

    /// The state of the agent.
    ///
    /// # Errors
    /// [`AgentError::CoreGone`] if the agent has ended.
    pub async fn status(&self) -> Result<Status, AgentError> {
        let (answer, state) = oneshot::channel();
        self.core.send_async(ToCore::Status(answer)).await.map_err(|_| AgentError::CoreGone)?;
        let core = state.await.map_err(|_| AgentError::CoreGone)?;
        let now = self.clock.now();
        let views = self.shared.views.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Status {
            version: crate::model::VERSION.to_owned(),
            agent_id: self.shared.agent_id.to_string(),
            pid: std::process::id(),
            started_utc: self.shared.started.wall.utc_text(),
            uptime_seconds: self.uptime(now).as_secs(),
            link: views.link.clone(),
            twin: views.twin.clone(),
            collectors: views.health.values().cloned().collect(),
            core,
            origins: self.shared.origins.clone(),
        })
    }

    /// Sends everything that waits, without waiting for the frequencies.
    ///
    /// # Errors
    /// [`AgentError::CoreGone`] if the agent has ended.
    pub async fn flush(&self) -> Result<(), AgentError> {
        self.core.send_async(ToCore::Flush).await.map_err(|_| AgentError::CoreGone)
    }
}

impl Agent {
    /// Builds an agent: takes the lock, opens the spool, starts the core.
    ///
    /// # Errors
    /// As [`AgentError`] says; nothing was sent and nothing stored is lost.
    pub fn build(options: AgentOptions) -> Result<(Self, Handle), AgentError> {
        let AgentOptions { settings, identity, tls, host, clock, diagnostics } = options;
        let storage = &settings.storage;
        make_directory(&storage.directory)?;
        if let Some(directory) = &storage.runtime_directory {
            make_directory(directory)?;
        }
        let lock = files::Lock::take(&storage.directory.join("lock")).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => AgentError::Locked(storage.directory.clone()),
            _ => AgentError::State { path: storage.directory.join("lock"), source },
        })?;
        let agent_id = agent_id(&storage.directory.join("agent-id"))?;
        let now = clock.now();
        let crashes = Arc::new(CrashBook::open(crash_file::path(storage.runtime()), now));
        let configuration = Configuration::load(&storage.directory, settings.twin.object.clone());
        let config = Arc::clone(&configuration.config);

        let (spool, recovery) = Spool::open(
            SpoolOptions {
                directory: storage.directory.clone(),
                runtime_directory: storage.runtime_directory.clone(),
                cache_limit: config.max_local_cache_size,
                commit_interval: storage.commit_interval,
                min_free: storage.min_free,
            },
            now,
        )?;
        if let Some(gap) = &recovery.gap {
            tracing::warn!(start = %gap.start.utc, end = %gap.end.utc, reason = gap.reason, "gap in what was watched");
        }
        for note in &recovery.notes {
            tracing::warn!("{note}");
        }
        // The desired section is on disk before the events about its problems are: only a clean stop stored them surely.
        let untold = if recovery.start == Start::Clean { Vec::new() } else { configuration.telling() };
        let mut pipeline = Pipeline::new(&config, clock.zone(), now);
        let restored = pipeline.restore(recovery.aggregates, now);
        let heartbeat = if storage.runtime_directory.is_some() { HEARTBEAT } else { storage.commit_interval };

        let (to_hub, hub_inbox) = mpsc::channel(WINDOW * 4);
        let (core, core_inbox) = flume::bounded(CORE_QUEUE);
        let root = MessageRoot::new(crate::model::VERSION, agent_id);
        let mut machine = Core::new(CoreParts {
            clock: Arc::clone(&clock),
            config: Arc::clone(&config),
            pipeline,
            spool,
            root,
            to_hub: to_hub.clone(),
            heartbeat,
        });
        machine.restore(restored, now);
        let (core_lives, core_gone) = oneshot::channel();
        let core_thread = std::thread::Builder::new()
            .name("core".into())
            .spawn(move || {
                // Dropped at the end of the thread.
                let _lives = core_lives;
                crash::if_asked();
                machine.run(&core_inbox);
            })
            .map_err(AgentError::Thread)?;

        let shared = Arc::new(Shared::new(agent_id, now, &settings, &identity, &configuration));
        let link = LinkOptions {
            identity,
            tls,
            dial_host: settings.hub.host.clone(),
            port: settings.hub.port,
            messages: settings.hub.messages,
            direct_methods: settings.hub.direct_methods,
            sas_life: SAS_LIFE,
            clock: Arc::clone(&clock),
            product: format!("twinward/{}", crate::model::VERSION),
        };
        let handle = Handle { core: core.clone(), shared: Arc::clone(&shared), clock: Arc::clone(&clock) };
        let agent = Self {
            config: watch::Sender::new(config),
            gap_from: (recovery.start != Start::Fresh).then_some(now.wall),
            settings,
            host,
            clock,
            link,
            to_hub,
            hub_inbox,
            core,
            core_thread,
            core_gone,
            crashes,
            configuration,
            untold,
            shared,
            diagnostics,
            _lock: lock,
        };
        Ok((agent, handle))
    }
}

fn make_directory(path: &Path) -> Result<(), AgentError> {
    files::private_directory(path).map_err(|source| AgentError::State { path: path.to_owned(), source })
}

/// The id of this installation; made at the first start.
fn agent_id(path: &Path) -> Result<AgentId, AgentError> {
    let state = |source| AgentError::State { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            if let Some(id) = AgentId::parse(text.trim()) {
                return Ok(id);
            }
            tracing::warn!(path = %path.display(), "the stored agent id is damaged; making a new one");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(state(error)),
    }
    let id = AgentId::random();
    files::write_atomic(path, format!("{id}\n").as_bytes(), 0o600).map_err(state)?;
    Ok(id)
}
