//! The log, on standard error, one line an event. The forms:
//!
//! ```text
//! journal    <6>link is up hub=contoso.azure-devices.net          (sd-daemon(3) priority; journald adds the time)
//! terminal   09:30:00 INFO  link is up hub=contoso.azure-devices.net
//! file       2026-11-22T09:30:00.250Z INFO  link is up hub=contoso.azure-devices.net
//! ```
//!
//! Control characters in messages and values are made visible, so that nobody can forge a line or steer a terminal.

use std::fmt::{self, Write};
use std::io::IsTerminal;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::agent::diagnostics::Sink;
use crate::model::payload::DiagnosticSeverity;
use crate::settings::LogLevel;
use crate::sys::clock::{Clock, SystemClock};

use super::output::printable;

/// Longest message or value in characters; the rest is cut. What a peer sends must not fill the journal.
const LONGEST: usize = 2000;

/// Starts the log at `level`. Other libraries are heard from `warn` up only, unless `level` is `debug` or `trace`.
/// What is written also goes to `diagnostics`. The first call counts; a later one does nothing.
pub fn init(level: LogLevel, diagnostics: Option<Sink>) {
    let level = filter(level);
    let style = Style::choose(std::env::var_os("JOURNAL_STREAM").is_some(), std::io::stderr().is_terminal());
    let lines = Lines { style, clock: Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH)) };
    let wanted = filter_fn(move |metadata| enabled(metadata, level)).with_max_level_hint(level);
    // A standard error that takes no more is no reason to fail, nor to write about it.
    let layer = layer().event_format(lines).with_writer(std::io::stderr).log_internal_errors(false);
    let diagnostics = diagnostics.map(Diagnostics);
    let _ = tracing_subscriber::registry().with(wanted).with(layer).with(diagnostics).try_init();
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

fn enabled(metadata: &Metadata<'_>, level: LevelFilter) -> bool {
    wanted(metadata.target(), *metadata.level(), level)
}

fn wanted(target: &str, of: Level, level: LevelFilter) -> bool {
    let ours = target == "twinward" || target.starts_with("twinward::");
    let limit = if ours || level >= LevelFilter::DEBUG { level } else { level.min(LevelFilter::WARN) };
    of <= limit
}

/// Hands each line to the agent as well.
struct Diagnostics(Sink);

impl<S: Subscriber> Layer<S> for Diagnostics {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let severity = match *event.metadata().level() {
            Level::ERROR => DiagnosticSeverity::Error,
            Level::WARN => DiagnosticSeverity::Warning,
            Level::INFO => DiagnosticSeverity::Information,
            _ => DiagnosticSeverity::Debug,
        };
        self.0.line(severity, event.metadata().target(), || {
            let mut parts = Parts::default();
            event.record(&mut parts);
            parts.message + &parts.fields
        });
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Journal,
    Terminal,
    File,
}

impl Style {
    fn choose(journal: bool, terminal: bool) -> Self {
        match (terminal, journal) {
            (true, _) => Self::Terminal,
            (false, true) => Self::Journal,
            (false, false) => Self::File,
        }
    }
}

/// Writes one event as one line.
struct Lines {
    style: Style,
    clock: Arc<dyn Clock>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        match self.style {
            Style::Journal => write!(writer, "<{}>", priority(level))?,
            Style::Terminal => {
                let time = self.clock.now().wall.utc.to_zoned(TimeZone::UTC).time();
                write!(writer, "{:02}:{:02}:{:02} {} ", time.hour(), time.minute(), time.second(), mark(level))?;
            }
            Style::File => write!(writer, "{} {} ", self.clock.now().wall.utc_text(), mark(level))?,
        }
        let mut parts = Parts::default();
        event.record(&mut parts);
        writeln!(writer, "{}{}", parts.message, parts.fields)
    }
}

/// The syslog priority of a level (`syslog(3)`): err, warning, info, debug.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn mark(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN ",
        Level::INFO => "INFO ",
        Level::DEBUG => "DEBUG",
        _ => "TRACE",
    }
}

/// The message and ` key=value` for each field.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn put(&mut self, field: &Field, text: &str) {
        let text = visible(text);
        if field.name() == "message" {
            self.message.push_str(&text);
            return;
        }
        let name = field.name();
        // A value that could be taken for several is quoted.
        let plain = !text.is_empty() && !text.contains([' ', '"', '=']);
        // Writing to a string does not fail.
        let _ = if plain {
            write!(self.fields, " {name}={text}")
        } else {
            write!(self.fields, " {name}=\"{}\"", text.replace('"', "\\\""))
        };
    }
}

/// Control characters made visible, and cut to a bearable length.
fn visible(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => printable(text.get(..end).unwrap_or(text)) + "…",
        None => printable(text),
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(inner) = cause {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            cause = inner.source();
        }
        self.put(field, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::sys::clock::ManualClock;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write_all(bytes)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `speak` logs, in `style`.
    fn logged(style: Style, speak: impl FnOnce()) -> String {
        let paper = Paper::default();
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00.25Z".parse().unwrap()));
        let to = paper.clone();
        let layer = layer().event_format(Lines { style, clock }).with_writer(move || to.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), speak);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn speak() {
        tracing::info!(hub = "h.net", tries = 3, reason = "cold start", none = "", "link is up");
        tracing::error!(why = %"a\"b", "lost");
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        assert_eq!(
            logged(Style::Journal, speak),
            "<6>link is up hub=h.net tries=3 reason=\"cold start\" none=\"\"\n<3>lost why=\"a\\\"b\"\n"
        );
        assert_eq!(logged(Style::Journal, || tracing::warn!("w")), "<4>w\n");
        assert_eq!(logged(Style::Journal, || tracing::debug!("d")), "<7>d\n");
    }

    #[test]
    fn a_terminal_gets_a_short_time_and_a_file_a_whole_one() {
        assert_eq!(logged(Style::Terminal, || tracing::warn!(n = 1, "slow")), "09:30:00 WARN  slow n=1\n");
        assert_eq!(logged(Style::File, || tracing::warn!(n = 1, "slow")), "2026-11-22T09:30:00.250Z WARN  slow n=1\n");
    }

    #[test]
    fn nobody_can_forge_a_line_or_steer_a_terminal() {
        let evil = "x\n<0>system is fine\x1b[2J";
        let text = logged(Style::Journal, || tracing::info!(name = evil, debug = ?evil, "got {evil}"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.contains('\u{1b}') && text.starts_with("<6>got x\\n<0>"), "{text}");
    }

    #[test]
    fn a_long_value_is_cut() {
        let text = logged(Style::Journal, || tracing::info!(v = "ö".repeat(LONGEST + 1), "m"));
        assert_eq!(text.chars().count(), "<6>m v=…\n".chars().count() + LONGEST);
        let whole = logged(Style::Journal, || tracing::info!(v = "ö".repeat(LONGEST), "m"));
        assert!(!whole.contains('…'));
    }

    #[test]
    fn errors_come_with_their_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        let error = Outer(io::Error::other("inner"));
        let text =
            logged(Style::Journal, || tracing::error!(error = &error as &(dyn std::error::Error + 'static), "failed"));
        assert_eq!(text, "<3>failed error=\"outer: inner\"\n");
    }

    #[test]
    fn other_libraries_are_heard_from_warn_up_unless_asked_for_details() {
        use LevelFilter as L;
        assert!(wanted("twinward::hub::link", Level::INFO, L::INFO));
        assert!(!wanted("twinward::hub::link", Level::DEBUG, L::INFO));
        assert!(wanted("rustls::client", Level::WARN, L::INFO));
        assert!(!wanted("rustls::client", Level::INFO, L::INFO));
        assert!(!wanted("twinwardish", Level::INFO, L::INFO));
        assert!(!wanted("rustls::client", Level::WARN, L::ERROR));
        assert!(wanted("rustls::client", Level::DEBUG, L::DEBUG));
        assert!(!wanted("rustls::client", Level::TRACE, L::DEBUG));
    }

    #[test]
    fn the_place_decides_the_form() {
        assert_eq!(Style::choose(true, false), Style::Journal);
        assert_eq!(Style::choose(false, false), Style::File);
        // A shell below a service inherits the variable.
        assert_eq!(Style::choose(true, true), Style::Terminal);
    }
}
