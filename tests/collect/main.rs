//! The collectors on this machine: real processes and sockets, and events that the published schema accepts.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../schema/mod.rs"]
mod schema;

mod command;
mod connections;
mod connector;
mod ends;
mod fanotify;
mod firewall;
mod hardware;
mod ports;
mod processes;
mod snapshots;
mod users;

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use serde_json::Value;
use twinward::collect::Source;
use twinward::collect::lane::{self, SourceContext};
use twinward::model::event::{Event, EventName, Observation};
use twinward::model::ids::{AgentId, EventId};
use twinward::model::message::MessageRoot;
use twinward::model::payload::{Payload, ProcessCreate};
use twinward::settings;
use twinward::sys::clock::{Clock, SystemClock};
use twinward::sys::host::Host;

/// Long enough for any machine; a test that works does not wait for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The connector tells everybody everything: a storm of one test would drown the others.
static ONE_STORM: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_STORM.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH))
}

/// A process with a unique argument that lives until its standard input closes.
struct Marked {
    child: Child,
    marker: String,
}

impl Marked {
    fn start(marker: String) -> Self {
        Self::with(marker, &[])
    }

    #[expect(clippy::disallowed_methods, reason = "the test is about a real process")]
    fn with(marker: String, more: &[&str]) -> Self {
        // The shell stays: `read` is its own, so its argument stays visible.
        let child = Command::new("/bin/sh")
            .args(["-c", "read -r line; exit 0", &marker])
            .args(more)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, marker }
    }
}

fn marker() -> String {
    format!("twinward-{}", EventId::random())
}

impl Drop for Marked {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

fn open(wanted: settings::ProcessSource) -> Box<dyn Source> {
    let context = SourceContext { wanted, ..SourceContext::plain(Host::system(), clock()) };
    lane::open_for(&context, EventName::ProcessCreate).unwrap().0
}

/// Drains until `done` is content with what was seen; gives everything that was seen.
#[expect(clippy::disallowed_methods, reason = "the test's own end")]
fn drain_until(source: &mut dyn Source, done: impl Fn(&[ProcessCreate]) -> bool) -> Vec<Observation> {
    let end = Instant::now() + PATIENCE;
    let mut all: Vec<Observation> = Vec::new();
    loop {
        source.drain(Duration::from_secs(5), &mut all).unwrap();
        let seen: Vec<_> = all.iter().map(process).cloned().collect();
        if done(&seen) {
            return all;
        }
        assert!(Instant::now() < end, "not seen; saw {seen:?}");
    }
}

fn process(observation: &Observation) -> &ProcessCreate {
    match &observation.what {
        Payload::ProcessCreate(process) => process,
        other => panic!("{other:?}"),
    }
}

fn assert_valid(events: &[Event]) {
    let zone: TimeZone = TimeZone::fixed(jiff::tz::offset(-3));
    let bodies: Vec<String> = events.iter().map(|e| e.to_value(&zone).unwrap().to_string()).collect();
    let body = MessageRoot::new("0.1.0", AgentId::random()).body(&bodies);
    let body: Value = serde_json::from_str(&body).unwrap();
    let validator = schema::validator();
    let problems: Vec<String> = validator.iter_errors(&body).map(|e| e.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?} in {body:#}");
}

fn event(observation: Observation) -> Event {
    Event {
        id: EventId::random(),
        name: observation.what.event(),
        at: observation.at,
        payload: vec![observation.what],
        hits: 1,
    }
}
