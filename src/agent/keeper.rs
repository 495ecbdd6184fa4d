//! Keeps the last desired section on disk. Each time waits for the disk twice, so a task of its own does it, after the
//! section is in force: one write after the other, and of several sections that wait only the last.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::settings::last_good::{self, LastGood};

/// How long the end waits for the disk.
const PATIENCE: Duration = Duration::from_secs(1);

/// The task.
pub(super) struct Keeper {
    latest: watch::Sender<Option<Arc<LastGood>>>,
    task: JoinSet<()>,
}

impl Keeper {
    /// Keeps sections in this directory.
    pub(super) fn start(directory: PathBuf) -> Self {
        let (latest, news) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn(run(directory, news));
        Self { latest, task }
    }

    /// Keeps this one, soon.
    pub(super) fn keep(&self, last: LastGood) {
        self.latest.send_replace(Some(Arc::new(last)));
    }

    /// Waits until what was given is on disk.
    pub(super) async fn finish(mut self) {
        // The task sees the last value before it sees that there will be no other.
        drop(self.latest);
        if timeout(PATIENCE, self.task.join_next()).await.is_err() {
            tracing::warn!("the disk is slow; the desired configuration may not be stored");
        }
    }
}

async fn run(directory: PathBuf, mut news: watch::Receiver<Option<Arc<LastGood>>>) {
    while news.changed().await.is_ok() {
        let Some(last) = news.borrow_and_update().clone() else { continue };
        let directory = directory.clone();
        let failure = match spawn_blocking(move || last_good::save(&directory, &last)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            error = failure,
            "the desired configuration cannot be stored; an offline restart will use an older one"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn last(version: u64) -> LastGood {
        LastGood { version, desired: Map::new(), in_force: Map::new() }
    }

    #[tokio::test]
    async fn the_last_of_many_is_on_disk_at_the_end_and_a_failure_hinders_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::start(dir.path().to_owned());
        for version in 1..=100 {
            keeper.keep(last(version));
            if version % 7 == 0 {
                tokio::task::yield_now().await;
            }
        }
        keeper.finish().await;
        assert_eq!(last_good::load(dir.path()).unwrap(), Some(last(100)));

        let nowhere = Keeper::start(dir.path().join("none"));
        nowhere.keep(last(1));
        nowhere.finish().await;
        // Nothing was given: nothing to wait for.
        Keeper::start(dir.path().to_owned()).finish().await;
    }
}
