//! Runs snapshot collectors, each on a thread of its own. One that hangs, as on a file system that does not answer,
//! holds up nothing but its own thread: it is not started again while it runs, and nobody waits for it at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use crate::collect::snapshot::{CollectError, Taken};
use crate::model::event::EventName;
use crate::sys::crash;

/// A collector that takes longer is reported; its late result is thrown away.
const LIMIT: Duration = Duration::from_secs(60);

type Outcome = Result<Taken, CollectError>;

/// All collectors, and those that did not answer in time.
pub(super) struct Collectors {
    take: Arc<dyn Fn(EventName) -> Outcome + Send + Sync>,
    limit: Duration,
    running: BTreeMap<EventName, oneshot::Receiver<Outcome>>,
}

impl Collectors {
    /// `take` does the work and may block.
    pub(super) fn new(take: impl Fn(EventName) -> Outcome + Send + Sync + 'static) -> Self {
        Self { take: Arc::new(take), limit: LIMIT, running: BTreeMap::new() }
    }

    /// Takes one snapshot; waits at most 60 s.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) async fn run(&mut self, name: EventName) -> Result<Taken, String> {
        if let Some(mut late) = self.running.remove(&name)
            && matches!(late.try_recv(), Err(TryRecvError::Empty))
        {
            self.running.insert(name, late);
            return Err("still running since an earlier round".to_owned());
        }
        let (sender, mut receiver) = oneshot::channel();
        let take = Arc::clone(&self.take);
        let work = move || {
            crash::if_asked();
            // Nobody may be waiting any more.
            let _ = sender.send(take(name));
        };
        std::thread::Builder::new()
            .name(name.as_str().into())
            .spawn(work)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        match timeout(self.limit, &mut receiver).await {
            Err(_) => {
                self.running.insert(name, receiver);
                Err(format!("no result within {} s", self.limit.as_secs()))
            }
            Ok(Err(_)) => Err("its thread ended without a result".to_owned()),
            Ok(Ok(taken)) => taken.map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::model::event::Snapshot;
    use crate::model::health::{CollectorHealth, HealthState};
    use crate::model::time::Timestamp;

    const NAME: EventName = EventName::SystemInformation;

    fn taken(name: EventName) -> Taken {
        let at = Timestamp::trusted(jiff::Timestamp::UNIX_EPOCH);
        let health = CollectorHealth { event: name, state: HealthState::Ok, source: "s".into(), detail: String::new() };
        Taken { snapshot: Snapshot { name, at, items: Vec::new() }, health }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap()
    }

    #[test]
    fn one_that_hangs_is_not_started_again_and_holds_up_nobody() {
        let starts = Arc::new(AtomicUsize::new(0));
        let (release, hung) = mpsc::sync_channel::<()>(1);
        let (hung, count) = (Mutex::new(hung), Arc::clone(&starts));
        let mut collectors = Collectors::new(move |name| {
            if name == NAME {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = hung.lock().unwrap().recv();
            }
            Ok(taken(name))
        });
        collectors.limit = Duration::from_millis(20);
        let first = runtime();
        first.block_on(async {
            assert!(collectors.run(NAME).await.unwrap_err().starts_with("no result within"));
            for _ in 0..10 {
                assert_eq!(collectors.run(NAME).await.unwrap_err(), "still running since an earlier round");
            }
            // Name resolution, for example, has the pool for itself.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        });
        // This would wait for blocking work.
        drop(first);
        assert_eq!(starts.load(Ordering::SeqCst), 1);
        collectors.limit = LIMIT;
        runtime().block_on(async {
            assert!(collectors.run(EventName::ListeningPorts).await.is_ok(), "the others go on");
            drop(release);
            // The late result is thrown away, and then it works as before.
            loop {
                match collectors.run(NAME).await {
                    Ok(taken) => break assert_eq!(taken.snapshot.name, NAME),
                    Err(why) => assert_eq!(why, "still running since an earlier round"),
                }
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(starts.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn one_that_fails_says_so_and_runs_again() {
        let starts = AtomicUsize::new(0);
        let mut collectors = Collectors::new(move |name| match starts.fetch_add(1, Ordering::SeqCst) {
            0 => Err(CollectError::NoCollector(name)),
            _ => Ok(taken(name)),
        });
        runtime().block_on(async {
            assert!(collectors.run(NAME).await.unwrap_err().starts_with("no snapshot collector"));
            assert!(collectors.run(NAME).await.is_ok());
        });
    }
}
