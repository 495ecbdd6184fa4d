//! `twinward run` before the file with the connection string is there: it waits for it.
//!
//! A device gets its package first and its secret later. Until then the service is active and quiet: one line in
//! the log, READY, a line of status and signs of life for systemd, and an answer for `twinward status`. Nothing is
//! collected, so the balance begins with the start that follows.
//!
//! A file that has come may still be on its way: `install` makes it first, empty and root's, and gives it content and
//! owner when these are there, which may be long after if they are pasted by hand. So nothing ends the wait but a right
//! one: what is wrong with it is said whenever that changes, and a service that says it is better than a dead one. Only
//! one that is wrong at the start ends the agent.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::control::{self, Request};
use crate::hub::connstr::ConnectionString;
use crate::hub::tls;
use crate::model::time::Now;
use crate::settings::Settings;
use crate::sys::clock::Clock;
use crate::sys::notify;

use super::exit::CommandError;
use super::identity::{self, NoIdentity};
use super::run;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);

/// Who we are: at once if the secret is there, right or wrong; else when a right one has come.
///
/// # Errors
/// Exit code 78 for a secret that is wrong at the start, or a CA file that is; else what [`run::bind`] says.
pub(super) async fn for_credentials(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<ConnectionString> {
    let file = match identity::read(&settings.identity) {
        Err(NoIdentity::Absent { file, .. }) => file,
        known => return Ok(known.map_err(CommandError::from)?),
    };
    // What else is wrong is told now, not when the file has come.
    tls::client_config(settings.hub.ca_file.as_deref())
        .map_err(|error| CommandError::configuration(error.to_string()))?;
    let server = run::bind(&settings.storage)?;
    let shown = Arc::new(Shown { file, started: clock.now(), clock, why: Mutex::default() });
    notify::ready();
    let pause = notify::watchdog_interval().map_or(PAUSE, |interval| PAUSE.min(interval / 3));
    let answers = Arc::clone(&shown);
    tokio::select! {
        identity = look(|| identity::read(&settings.identity), &shown, pause) => Ok(identity),
        () = control::serve(server, move |request| std::future::ready(answers.answer(request))) => {
            anyhow::bail!("the control socket ended")
        }
    }
}

/// Looks until it is right.
async fn look(
    mut read: impl FnMut() -> Result<ConnectionString, NoIdentity>,
    shown: &Shown,
    pause: Duration,
) -> ConnectionString {
    loop {
        match read() {
            Ok(identity) => {
                tracing::info!(file = %shown.file.display(), "the credentials have come");
                return identity;
            }
            Err(error) if shown.note(&error) => {
                tracing::warn!("waiting for credentials, nothing is collected: {error}");
                notify::status(&format!("waiting for credentials: {error}"));
            }
            Err(_) => {}
        }
        notify::watchdog();
        sleep(pause).await;
    }
}

/// What `twinward status` is answered.
struct Shown {
    file: PathBuf,
    started: Now,
    clock: Arc<dyn Clock>,
    why: Mutex<String>,
}

impl Shown {
    /// Whether that is news.
    fn note(&self, error: &NoIdentity) -> bool {
        let why = error.to_string();
        let mut said = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *said != why;
        *said = why;
        news
    }

    fn answer(&self, request: Request) -> Value {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match request {
            Request::Status => self.status(&why),
            Request::Flush => json!({"error": format!("nothing is collected yet: {why}")}),
        }
    }

    fn status(&self, why: &str) -> Value {
        json!({
            "version": crate::model::VERSION,
            "pid": std::process::id(),
            "startedUtc": self.started.wall.utc_text(),
            "uptimeSeconds": self.clock.now().mono.since(self.started.mono).as_secs(),
            "waiting": { "file": self.file.display().to_string(), "why": why },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;
    use std::path::Path;

    use super::*;
    use crate::settings::Identity;
    use crate::sys::clock::ManualClock;
    use crate::sys::files::write_atomic;

    const STRING: &str = "HostName=h.net;DeviceId=d;ModuleId=m;SharedAccessKey=AAAA\n";
    /// At two seconds each, more than half an hour.
    const MANY: usize = 1000;

    /// Looks at a file [`MANY`] times after each step, then takes the next. What was said, in its order; the last step
    /// must make the file right.
    async fn said(file: &Path, steps: &[&dyn Fn()]) -> Vec<String> {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let shown = Shown { file: file.to_owned(), started: clock.now(), clock, why: Mutex::default() };
        let identity = Identity::ConnectionStringFile(file.to_owned());
        let (mut looks, mut said) = (0, Vec::new());
        let read = || {
            if looks > 0 && looks % MANY == 0 {
                steps[looks / MANY - 1]();
            }
            looks += 1;
            identity::read(&identity).inspect_err(|error| {
                let text = error.to_string();
                if said.last() != Some(&text) {
                    said.push(text);
                }
            })
        };
        assert_eq!(look(read, &shown, Duration::ZERO).await.device_id, "d");
        assert_eq!(looks, steps.len() * MANY + 1);
        said
    }

    fn only(text: &str, words: &str) {
        assert!(text.contains(words), "{words}: {text}");
    }

    #[tokio::test]
    async fn a_file_that_is_made_empty_and_filled_long_after_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let put = |text: &'static str| {
            let file = file.clone();
            move || write_atomic(&file, text.as_bytes(), 0o600).unwrap()
        };
        let said = said(&file, &[&put(""), &put(" \n"), &put(STRING)]).await;
        // Blanks are no news.
        assert_eq!(said.len(), 2, "{said:?}");
        only(&said[0], "does not exist; put ");
        only(&said[1], "the connection string is empty");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_whenever_it_changes_until_it_is_mended() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let put = |text: &'static str| {
            let file = file.clone();
            move || write_atomic(&file, text.as_bytes(), 0o600).unwrap()
        };
        let gone = || fs::remove_file(&file).unwrap();
        let cut = "HostName=h.net;DeviceId=d";
        let said = said(&file, &[&put(cut), &put("AAAA"), &gone, &put(cut), &put(STRING)]).await;
        let words = ["does not exist", "lacks ModuleId", "part 1 of", "does not exist", "lacks ModuleId"];
        assert_eq!(said.len(), words.len(), "{said:?}");
        said.iter().zip(words).for_each(|(said, words)| only(said, words));
    }

    #[tokio::test]
    #[ignore = "needs root; run by CI"]
    async fn a_file_that_is_somebody_elses_is_waited_for_until_it_is_given() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        let put = || {
            write_atomic(&file, STRING.as_bytes(), 0o600).unwrap();
            chown(&file, Some(998), Some(998)).unwrap();
        };
        let said = said(&file, &[&put, &|| chown(&file, Some(0), Some(0)).unwrap()]).await;
        assert_eq!(said.len(), 2, "{said:?}");
        only(&said[1], "belongs to uid 998: it must belong to root or to uid 0; run: chown 0 ");
    }

    #[test]
    fn the_same_is_noted_once() {
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let shown = Shown { file: "/x".into(), started: clock.now(), clock, why: Mutex::default() };
        let wrong = |text: &str| NoIdentity::Wrong(text.to_owned());
        let news = ["a", "a", "b", "b", "a"].map(|text| shown.note(&wrong(text)));
        assert_eq!(news, [true, false, true, false, true]);
        assert_eq!(shown.answer(Request::Status)["waiting"]["why"], "a");
    }
}
