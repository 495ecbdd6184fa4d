//! Running the agent: one loop that joins link, twin, collectors and core, and stops them in order.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::collect::lane::{STREAMS, SourceContext};
use crate::collect::snapshot::SnapshotContext;
use crate::hub::link;
use crate::hub::options::LinkOptions;
use crate::hub::traffic::{CALLS, FromHub, LinkState, MethodAnswer, MethodCall, ToHub};
use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::problem::Problem;
use crate::model::units::Priority;
use crate::settings::agent_config::AgentConfig;
use crate::sys::clock::Clock;
use crate::sys::{crash, notify};

use super::capture::{self, CaptureParts};
use super::configuration::Configuration;
use super::core::ToCore;
use super::crash_book::{self, CrashBook};
use super::crashes::Part;
use super::diagnostics;
use super::keeper::Keeper;
use super::lanes::Lanes;
use super::methods::{self, MethodParts};
use super::report::{self, Reporter};
use super::snapshots::{self, SnapshotParts};
use super::start::{Agent, AgentError, Handle, Shared};
use super::status::CoreStatus;
use super::watchdog;

/// Time for the messages on the wire to be acknowledged when the agent stops.
const FAREWELL: Duration = Duration::from_millis(2500);

struct Running {
    handle: Handle,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    core: flume::Sender<ToCore>,
    to_hub: mpsc::Sender<ToHub>,
    calls: mpsc::Sender<MethodCall>,
    diagnostics: Option<diagnostics::Switch>,
    /// The local configuration does not want them.
    diagnostics_off: bool,
    crashes: Arc<CrashBook>,
    configuration: Configuration,
    keeper: Keeper,
    config: watch::Sender<Arc<AgentConfig>>,
    reporter: Reporter,
    link_ready: bool,
    lanes: Lanes,
    announced: bool,
}

impl Agent {
    /// Runs until `stop` is cancelled; gives the last state.
    ///
    /// # Errors
    /// [`AgentError::CoreGone`] or [`AgentError::Spool`] if state could not be kept.
    pub async fn run(self, handle: Handle, stop: CancellationToken) -> Result<CoreStatus, AgentError> {
        let (snapshots, sources) = self.contexts();
        let (hub_events, mut from_hub) = mpsc::channel(64);
        let (news_sender, mut capture_news) = mpsc::channel(16);
        let (health_sender, mut health) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        let collectors_stop = CancellationToken::new();
        let link = run_link(self.link, self.hub_inbox, hub_events, Arc::clone(&self.crashes), collectors_stop.clone());
        tasks.spawn(crash::task(crash::LINK, link));
        tasks.spawn(crash_book::run(Arc::clone(&self.crashes), Arc::clone(&self.clock), collectors_stop.clone()));
        let (out_of_turn_sender, out_of_turn) = mpsc::channel(1);
        let (calls_sender, calls) = mpsc::channel(CALLS);
        tasks.spawn(snapshots::run(
            SnapshotParts {
                context: snapshots,
                clock: Arc::clone(&self.clock),
                config: self.config.subscribe(),
                crashes: Arc::clone(&self.crashes),
                core: self.core.clone(),
                health: health_sender,
                out_of_turn,
            },
            collectors_stop.clone(),
        ));
        let lanes = Lanes::new(
            CaptureParts {
                context: sources,
                core: self.core.clone(),
                crashes: Arc::clone(&self.crashes),
                news: news_sender,
                wait: capture::wait_below(notify::watchdog_interval()),
            },
            self.gap_from,
        );
        let diagnostics = self.diagnostics.as_ref().map(diagnostics::Source::want);
        if let Some(source) = self.diagnostics {
            tasks.spawn(diagnostics::run(source, self.core.clone(), Arc::clone(&self.clock), collectors_stop.clone()));
        }
        let methods = methods::run(
            MethodParts {
                calls,
                to_hub: self.to_hub.clone(),
                handle: handle.clone(),
                core: self.core.clone(),
                collect: out_of_turn_sender,
                clock: Arc::clone(&self.clock),
            },
            collectors_stop.clone(),
        );
        tasks.spawn(crash::task(crash::LINK, methods));
        tasks.spawn(watchdog::run(handle.clone(), lanes.pulses(), collectors_stop.clone()));
        let mut running = Running {
            handle,
            shared: self.shared,
            clock: self.clock,
            core: self.core,
            to_hub: self.to_hub,
            calls: calls_sender,
            diagnostics,
            diagnostics_off: self.settings.log.diagnostic_level.is_none(),
            crashes: self.crashes,
            configuration: self.configuration,
            keeper: Keeper::start(self.settings.storage.directory),
            config: self.config,
            reporter: Reporter::default(),
            link_ready: false,
            lanes,
            announced: false,
        };
        running.reconcile_capture();
        running.reconcile_diagnostics();
        let mut result = running.tell_problems(self.untold).await;
        let mut core_gone = self.core_gone;
        while result.is_ok() {
            let report_in = running.report_wait();
            let retry_at = running.lanes.retry_at();
            tokio::select! {
                () = stop.cancelled() => break,
                _ = &mut core_gone => result = Err(AgentError::CoreGone),
                Some(event) = from_hub.recv() => result = crash::task(crash::LINK, running.on_hub(event)).await,
                Some(news) = capture_news.recv() => {
                    running.lanes.take(news);
                    running.show_lanes();
                }
                Some(health) = health.recv() => running.set_health(health),
                () = sleep(report_in.unwrap_or(Duration::MAX)), if report_in.is_some() => result = running.report().await,
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    running.lanes.reconcile();
                    running.show_lanes();
                }
            }
        }
        notify::stopping();
        collectors_stop.cancel();
        let farewell = running.shut_down(&mut from_hub).await;
        tasks.shutdown().await;
        core_ended(core_gone, self.core_thread).await;
        result.and(farewell)
    }

    /// What collectors are given.
    fn contexts(&self) -> (SnapshotContext, SourceContext) {
        let snapshots = SnapshotContext {
            name_service: self.settings.collect.name_service,
            ..SnapshotContext::plain(self.host.clone(), Arc::clone(&self.clock))
        };
        let sources = SourceContext {
            state: Some(self.settings.storage.directory.clone()),
            ..SourceContext::new(&self.settings.collect, self.host.clone(), Arc::clone(&self.clock))
        };
        (snapshots, sources)
    }
}

/// Waits for the end of the core, not on the blocking pool, which name resolution may have filled.
async fn core_ended(gone: oneshot::Receiver<()>, thread: JoinHandle<()>) {
    if !gone.is_terminated() {
        // The sender is never used, only dropped, when the thread is at its end.
        let _ = gone.await;
    }
    // It has answered already, or has said so in the log.
    let _ = thread.join();
}

/// Keeps the link, once it is not held back after a crash.
async fn run_link(
    options: LinkOptions,
    commands: mpsc::Receiver<ToHub>,
    events: mpsc::Sender<FromHub>,
    crashes: Arc<CrashBook>,
    stop: CancellationToken,
) {
    let now = options.clock.now().mono;
    if let Some(held) = crashes.held(&Part::Link, now) {
        let retry_in = held.until.since(now);
        let down = LinkState::Down { error: held.why, retry_in, permanent_hint: false };
        // The owner is gone only when the agent ends.
        let _ = events.send(FromHub::State(down)).await;
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(retry_in) => {}
        }
    }
    link::run(options, commands, events).await;
}

impl Running {
    async fn tell_core(&self, input: ToCore) -> Result<(), AgentError> {
        self.core.send_async(input).await.map_err(|_| AgentError::CoreGone)
    }

    async fn on_hub(&mut self, event: FromHub) -> Result<(), AgentError> {
        match event {
            FromHub::State(state) => self.on_link(state).await,
            FromHub::Desired { section, version } => self.on_desired(&section, version).await,
            FromHub::Delivered(id) => self.tell_core(ToCore::Delivered(id)).await,
            FromHub::Undeliverable { id, why } => {
                tracing::error!(message = %id, why, "a message can never be sent; it is dropped and counted");
                self.tell_core(ToCore::Undeliverable(id)).await
            }
            FromHub::Reported { ok, status, detail } => {
                if !ok {
                    tracing::warn!(status, detail, "the hub refused the reported properties");
                }
                Ok(())
            }
            FromHub::TwinUnreadable(problem) => {
                let new = self.configuration.unreadable(problem);
                // The same twin again is nothing to report.
                if new.is_empty() { Ok(()) } else { self.tell_problems(new).await }
            }
            FromHub::TwinUnavailable(_) => Ok(()),
            FromHub::Called(call) => {
                if let Err(TrySendError::Full(call) | TrySendError::Closed(call)) = self.calls.try_send(call) {
                    // Those of a connection that is gone still fill the queue.
                    let body = r#"{"error":"too many calls at once; call again later"}"#.to_owned();
                    let MethodCall { connection, rid, .. } = call;
                    let _ = self.to_hub.try_send(ToHub::Answer(MethodAnswer { connection, rid, status: 429, body }));
                }
                Ok(())
            }
        }
    }

    async fn on_link(&mut self, state: LinkState) -> Result<(), AgentError> {
        let now = self.clock.now();
        match state {
            LinkState::Ready => self.crashes.up(&Part::Link, now.mono),
            _ => self.crashes.down(&Part::Link),
        }
        let since_utc = now.wall.utc_text();
        let (name, error) = match &state {
            LinkState::Connecting => ("connecting", String::new()),
            LinkState::Ready => ("ready", String::new()),
            LinkState::Down { error, .. } => ("down", error.clone()),
            LinkState::Stopped => ("stopped", String::new()),
        };
        self.shared.update(|views| {
            views.link.state = name;
            views.link.since_utc = since_utc;
            if name != "connecting" {
                views.link.error.clone_from(&error);
            }
        });
        notify::status(&if error.is_empty() { format!("link {name}") } else { format!("link {name}: {error}") });
        match state {
            LinkState::Ready => {
                self.link_ready = true;
                self.reporter.urge();
                self.tell_core(ToCore::LinkReady).await
            }
            LinkState::Down { .. } | LinkState::Stopped if self.link_ready => {
                self.link_ready = false;
                self.tell_core(ToCore::LinkDown).await
            }
            _ => Ok(()),
        }
    }

    async fn on_desired(&mut self, section: &Map<String, Value>, version: u64) -> Result<(), AgentError> {
        let update = self.configuration.desired(section, version);
        tracing::info!(
            version,
            changed = update.config.is_some(),
            problems = self.configuration.problems.len(),
            "desired configuration received"
        );
        if let Some(config) = update.config {
            self.tell_core(ToCore::Configure(Arc::clone(&config))).await?;
            self.config.send_replace(config);
            self.reconcile_capture();
            self.reconcile_diagnostics();
        }
        self.tell_problems(update.new_problems).await?;
        self.keeper.keep(update.keep);
        Ok(())
    }

    /// Shows what the configuration is now, and tells what is newly wrong with it.
    async fn tell_problems(&mut self, new: Vec<Problem>) -> Result<(), AgentError> {
        self.shared.update(|views| {
            views.twin.source = self.configuration.source.as_str();
            views.twin.desired_version = self.configuration.version;
            views.twin.problems.clone_from(&self.configuration.problems);
        });
        self.reporter.urge();
        for problem in &new {
            tracing::warn!(
                key = problem.key,
                given = problem.given,
                expected = problem.expected,
                in_force = problem.in_force,
                "desired value is refused or doubtful"
            );
        }
        if new.is_empty() { Ok(()) } else { self.tell_core(ToCore::Problems(new)).await }
    }

    /// How long until the reported section is to be looked at; `None` while nobody would take it.
    fn report_wait(&self) -> Option<Duration> {
        let now = self.clock.now().mono;
        self.link_ready.then(|| self.reporter.next_deadline(now).since(now))
    }

    async fn report(&mut self) -> Result<(), AgentError> {
        let now = self.clock.now().mono;
        if !self.reporter.due(now) {
            return Ok(());
        }
        let status = self.handle.status().await?;
        let section = report::objects(&self.configuration, &status);
        if let Some(section) = self.reporter.offer(section, now)
            && self.to_hub.try_send(ToHub::Report(section)).is_err()
        {
            // The link is busy or gone; the next Ready asks again.
            self.reporter.urge();
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn set_health(&self, health: CollectorHealth) {
        self.shared.update(|views| {
            views.health.insert(health.event, health);
        });
    }

    /// Takes lines of the log, or leaves them, as the configuration wants it.
    fn reconcile_diagnostics(&mut self) {
        let wanted = self.configuration.config.priority(EventName::Diagnostic) != Priority::Off;
        if let Some(switch) = &self.diagnostics {
            switch.set(wanted);
        }
        let (state, source, detail) = match &self.diagnostics {
            Some(_) if wanted => (HealthState::Ok, "log", ""),
            Some(_) => (HealthState::Off, "", ""),
            None if self.diagnostics_off => (HealthState::Off, "", "log.diagnostic_level is off"),
            None => (HealthState::Off, "", "this command does not send its log"),
        };
        let event = EventName::Diagnostic;
        self.set_health(CollectorHealth { event, state, source: source.to_owned(), detail: detail.to_owned() });
    }

    /// Opens or closes sources as the configuration wants it.
    fn reconcile_capture(&mut self) {
        let config = &self.configuration.config;
        let wanted = STREAMS.iter().filter(|event| config.priority(*event) != Priority::Off);
        self.lanes.want(wanted.fold(EventSet::NONE, |set, event| set.with(EventSet::of(&[event]))));
        self.show_lanes();
    }

    /// Shows how the streamed events are collected.
    fn show_lanes(&mut self) {
        for health in self.lanes.health() {
            self.set_health(health);
        }
        if self.lanes.is_settled() {
            self.announce();
        }
    }

    /// Tells systemd once that the agent works.
    fn announce(&mut self) {
        if !self.announced {
            self.announced = true;
            notify::ready();
            tracing::info!(version = crate::model::VERSION, pid = std::process::id(), "agent is running");
        }
    }

    /// Collectors are told to stop already; the rest follows in order.
    async fn shut_down(mut self, from_hub: &mut mpsc::Receiver<FromHub>) -> Result<CoreStatus, AgentError> {
        // From here on nothing is watched: the next start's gap begins here, not when the spool is closed.
        let watched_until = self.clock.now().wall;
        self.lanes.shut_down().await;
        let (settled, done) = oneshot::channel();
        self.tell_core(ToCore::Settle { watched_until, done: settled }).await?;
        done.await.map_err(|_| AgentError::CoreGone)?;
        if self.link_ready {
            self.reporter.urge();
            self.report().await?;
        }
        if self.to_hub.try_send(ToHub::Stop).is_ok() {
            // Acknowledgements that still come are booked before the spool is closed.
            let _ = timeout(FAREWELL, async {
                while let Some(event) = from_hub.recv().await {
                    match event {
                        FromHub::Delivered(id) => self.tell_core(ToCore::Delivered(id)).await?,
                        FromHub::State(LinkState::Stopped) => break,
                        _ => {}
                    }
                }
                Ok::<(), AgentError>(())
            })
            .await;
        }
        let (answer, closed) = oneshot::channel();
        self.tell_core(ToCore::Stop(answer)).await?;
        let last = closed.await.map_err(|_| AgentError::CoreGone)?;
        self.keeper.finish().await;
        Ok(last?)
    }
}
