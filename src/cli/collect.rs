//! `twinward collect NAME`: what one collector sees, as a table, or exactly as it would be sent.

mod rows;
mod tables;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use tokio::signal::unix::{SignalKind, signal};

use super::args::Global;
use super::exit::{self, CommandError};
use super::output;
use crate::collect::lane::{self, STREAMS, SourceContext};
use crate::collect::snapshot::{self, SnapshotContext};
use crate::collect::{COLLECTORS, Loss, Source};
use crate::model::event::{Event, EventName, Observation};
use crate::model::health::{CollectorHealth, HealthState};
use crate::model::ids::EventId;
use crate::settings;
use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::host::Host;
use crate::sys::wake::Waker;

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub struct Collect {
    /// Event to collect, for example ListeningPorts.
    #[arg(value_name = "NAME", value_parser = event_name)]
    name: EventName,
    /// How long to follow what is streamed: 500ms, 10s, 5m, 2h.
    #[arg(long = "for", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    follow: Duration,
    /// Where process starts are read from.
    #[arg(long, value_enum, default_value_t = Wanted::Auto)]
    source: Wanted,
    /// Lists the accounts of the name service (getent) as local users too.
    #[arg(long)]
    name_service: bool,
}

/// The values of `--source`: those of `collect.process_source`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wanted {
    /// The best one that works.
    Auto,
    /// Programs of ours in the kernel.
    Ebpf,
    /// The kernel's audit records.
    Audit,
    /// The kernel's process connector.
    Connector,
    /// The files that are opened to be run.
    Fanotify,
    /// Looking at /proc once a second.
    Poll,
}

fn event_name(text: &str) -> Result<EventName, String> {
    EventName::parse(text).ok_or_else(|| {
        let names: Vec<_> = COLLECTORS.iter().map(|n| n.as_str()).collect();
        format!("no such event; this version collects {}", names.join(", "))
    })
}

/// Reads a whole number with its unit: `ms`, `s`, `m` or `h`.
fn duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a whole number with its unit, such as 10s, 5m or 1h, at most 24h";
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(EXPECTED.to_owned()),
    };
    let length = number.parse::<u64>().ok().and_then(|n| n.checked_mul(milliseconds)).map(Duration::from_millis);
    length.filter(|l| *l <= Duration::from_secs(86_400)).ok_or_else(|| EXPECTED.to_owned())
}

impl Collect {
    /// Runs the command.
    ///
    /// # Errors
    /// The collector cannot work here, the event has none in this version, or standard output is closed.
    pub fn run(&self, global: &Global) -> anyhow::Result<u8> {
        let host = Host::system();
        // Nothing is stored or sent here: any time is good.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
        if !COLLECTORS.contains(&self.name) {
            let names: Vec<_> = COLLECTORS.iter().map(|n| n.as_str()).collect();
            let message = format!("{} has no collector in this version; it collects {}", self.name, names.join(", "));
            return Err(CommandError { code: exit::FAILED, message }.into());
        }
        if STREAMS.contains(self.name) {
            return self.follow(&host, &clock, global.json);
        }
        let plain = SnapshotContext::plain(host.clone(), Arc::clone(&clock));
        let taken = snapshot::take(self.name, &SnapshotContext { name_service: self.name_service, ..plain })?;
        let state = match taken.health.state {
            HealthState::Unavailable => "unavailable: ",
            _ => "",
        };
        say(&format!("source: {}", taken.health.source))?;
        if !taken.health.detail.is_empty() {
            say(&format!("{state}{}", taken.health.detail))?;
        }
        if global.json {
            let event = Event {
                id: EventId::random(),
                name: self.name,
                at: taken.snapshot.at,
                payload: taken.snapshot.items,
                hits: 1,
            };
            output::json_line(&event.to_value(&clock.zone())?)?;
        } else {
            tables::print(&taken.snapshot)?;
        }
        Ok(exit::OK)
    }

    fn follow(&self, host: &Host, clock: &Arc<dyn Clock>, json: bool) -> anyhow::Result<u8> {
        let wanted = match self.source {
            Wanted::Auto => settings::ProcessSource::Auto,
            Wanted::Ebpf => settings::ProcessSource::Ebpf,
            Wanted::Audit => settings::ProcessSource::Audit,
            Wanted::Connector => settings::ProcessSource::Connector,
            Wanted::Fanotify => settings::ProcessSource::Fanotify,
            Wanted::Poll => settings::ProcessSource::Poll,
        };
        let context = SourceContext { wanted, ..SourceContext::plain(host.clone(), Arc::clone(clock)) };
        let (source, health) = lane::open_for(&context, self.name)?;
        say(&format!("source: {} ({})", health.source, health.detail))?;
        if self.name != EventName::Login {
            say_what_rights_add(host, &health)?;
        }
        let total = run_until_done(source, self.name, self.follow, json, clock.zone())?;
        say(&format!("{} events seen, {} moments of loss", total.seen, total.losses))?;
        Ok(exit::OK)
    }
}

/// What the reading thread counted.
#[derive(Clone, Copy, Debug, Default)]
struct Total {
    seen: u64,
    losses: u64,
}

/// Ends the reading thread: the flag is what it looks at, the call is what brings it there.
struct Stop {
    flag: Arc<AtomicBool>,
    waker: Waker,
}

impl Stop {
    fn stop(&self) {
        self.flag.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// Reads on a thread of its own until the time is up, Ctrl-C or SIGTERM comes, or the thread ends by itself.
fn run_until_done(
    mut source: Box<dyn Source>,
    name: EventName,
    follow: Duration,
    json: bool,
    zone: TimeZone,
) -> anyhow::Result<Total> {
    let stop = Stop { flag: Arc::new(AtomicBool::new(false)), waker: source.waker() };
    let stopped = Arc::clone(&stop.flag);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let reader = thread::Builder::new().name("collect".to_owned()).spawn(move || {
        // Dropped when the thread ends.
        let _ended = ended;
        read(source.as_mut(), name, &stopped, json, &zone)
    })?;
    let waited = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        say(&format!("following for {follow:?}; Ctrl-C ends it"))?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = tokio::time::sleep(follow) => {}
            _ = end => {}
        }
        io::Result::Ok(())
    });
    stop.stop();
    let total = reader.join().map_err(|_| anyhow::anyhow!("the reading thread has ended"))?;
    waited.context("cannot wait for signals")?;
    total
}

fn read(
    source: &mut dyn Source,
    name: EventName,
    stopped: &AtomicBool,
    json: bool,
    zone: &TimeZone,
) -> anyhow::Result<Total> {
    let mut total = Total::default();
    let mut batch = Vec::new();
    if !json {
        print_lines(std::iter::once(rows::heading(name)))?;
    }
    while !stopped.load(Ordering::Acquire) {
        let drained = source.drain(Duration::from_secs(3600), &mut batch)?;
        total.seen += batch.len() as u64;
        total.losses += drained.losses.len() as u64;
        for loss in &drained.losses {
            say(&loss_line(loss))?;
        }
        if json {
            for observation in batch.drain(..) {
                output::json_line(&event(observation).to_value(zone)?)?;
            }
        } else {
            print_lines(batch.drain(..).filter_map(|observation| rows::row(&observation, zone)))?;
        }
    }
    Ok(total)
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

fn loss_line(loss: &Loss) -> String {
    let count = loss.at_most.map_or_else(|| "an unknown number of".to_owned(), |n| format!("at most {n}"));
    format!("lost {count} events between {} and {}: {}", loss.start.utc_text(), loss.end.utc_text(), loss.reason)
}

fn print_lines(lines: impl Iterator<Item = String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// A line for the person, beside the data.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{}", output::printable(text))
}

fn say_what_rights_add(host: &Host, health: &CollectorHealth) -> io::Result<()> {
    let Ok(rights) = Privileges::read(host) else { return Ok(()) };
    let complete = health.state == HealthState::Ok;
    // Not every source asks /proc.
    if health.detail.contains(Capability::SysPtrace.as_str()) {
        say("as root, or with CAP_SYS_PTRACE, it would also read the programs of other users")?;
    }
    if !complete && !rights.has(Capability::NetAdmin) {
        say("as root, or with CAP_NET_ADMIN, it would ask for the process connector, which misses no start")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_an_end() {
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "10", "s", "-1s", "1.5s", "10 s", "99999999999999999999h", "25h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = event_name("Processes").unwrap_err();
        assert!(COLLECTORS.iter().all(|name| error.contains(name.as_str())), "{error}");
    }
}
