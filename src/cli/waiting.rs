//! `twinward run` before the file with the connection string is there: it waits for it.
//!
//! A device gets its package first and its secret later. Until then the service is active and quiet: one line in
//! the log, READY, a line of status and signs of life for systemd, and an answer for `twinward status`. Nothing is
//! collected, so the balance begins with the start that follows.
//!
//! A file that has come may still be on its way: a program that copies it makes it first, and gives it content and
//! owner then. So a wrong one has a minute to become right; only then the agent ends, as it does when it finds a wrong
//! one at its start.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::control::{self, Request};
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
/// How long a file that has come may be wrong in the same way.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns at once if the secret is there, right or wrong; else when it has come.
///
/// # Errors
/// Exit code 78 for a file that stays wrong, or for a CA file that is; else what [`run::bind`] says.
pub(super) async fn for_credentials(settings: &Settings, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    let Err(NoIdentity::Absent(file)) = identity::read(settings) else { return Ok(()) };
    // What else is wrong is told now, not when the file has come.
    tls::client_config(settings.hub.ca_file.as_deref())
        .map_err(|error| CommandError::configuration(error.to_string()))?;
    let server = run::bind(&settings.storage)?;
    let shown = Arc::new(Shown { file, started: clock.now(), clock, why: Mutex::default() });
    notify::ready();
    let answers = Arc::clone(&shown);
    tokio::select! {
        come = look(settings, &shown) => Ok(come?),
        () = control::serve(server, move |request| std::future::ready(answers.answer(request))) => {
            anyhow::bail!("the control socket ended")
        }
    }
}

async fn look(settings: &Settings, shown: &Shown) -> Result<(), CommandError> {
    let pause = notify::watchdog_interval().map_or(PAUSE, |interval| PAUSE.min(interval / 3));
    let mut looks = Looks::default();
    while let Err(error) = identity::read(settings) {
        match looks.take(&error, pause) {
            Next::Say => shown.say(&error),
            Next::Nothing => {}
            Next::End => return Err(error.into()),
        }
        notify::watchdog();
        sleep(pause).await;
    }
    tracing::info!(file = %shown.file.display(), "the credentials have come");
    Ok(())
}

/// What `twinward status` is answered.
struct Shown {
    file: PathBuf,
    started: Now,
    clock: Arc<dyn Clock>,
    why: Mutex<String>,
}

impl Shown {
    fn say(&self, error: &NoIdentity) {
        let why = error.to_string();
        tracing::warn!("waiting for credentials, nothing is collected: {why}");
        notify::status(&format!("waiting for credentials: {why}"));
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
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

/// What the looks so far have seen.
#[derive(Debug, Default)]
struct Looks {
    said: String,
    /// How long the file has been wrong in the way that was said.
    wrong: Duration,
}

/// What follows from a look.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// It is new.
    Say,
    /// It was said.
    Nothing,
    /// It stays wrong.
    End,
}

impl Looks {
    /// Takes a look, `pause` after the one before.
    fn take(&mut self, error: &NoIdentity, pause: Duration) -> Next {
        let text = error.to_string();
        if text != self.said {
            *self = Self { said: text, wrong: Duration::ZERO };
            return Next::Say;
        }
        if let NoIdentity::Wrong(_) = error {
            self.wrong += pause;
        }
        if self.wrong >= PATIENCE { Next::End } else { Next::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> NoIdentity {
        NoIdentity::Wrong(text.to_owned())
    }

    #[test]
    fn an_absent_file_is_said_once_and_waited_for_without_end() {
        let mut looks = Looks::default();
        let absent = NoIdentity::Absent("/x".into());
        assert_eq!(looks.take(&absent, PAUSE), Next::Say);
        assert!((0..10_000).all(|_| looks.take(&absent, PAUSE) == Next::Nothing));
    }

    #[test]
    fn a_wrong_file_has_a_minute_from_its_last_change() {
        let mut looks = Looks::default();
        let until_end = |looks: &mut Looks, text: &str| {
            assert_eq!(looks.take(&wrong(text), PAUSE), Next::Say);
            (1..1000).find(|_| looks.take(&wrong(text), PAUSE) == Next::End).unwrap()
        };
        looks.take(&wrong("empty"), PAUSE);
        assert_eq!(until_end(&mut looks, "mode 0644") * PAUSE.as_secs(), 60);
        let mut looks = Looks::default();
        for text in ["empty", "half"] {
            assert_eq!(looks.take(&wrong(text), PAUSE), Next::Say);
            assert!((1..30).all(|_| looks.take(&wrong(text), PAUSE) == Next::Nothing));
        }
        assert_eq!(looks.take(&NoIdentity::Absent("/x".into()), PAUSE), Next::Say);
        assert_eq!(until_end(&mut looks, "half"), 30);
    }
}
