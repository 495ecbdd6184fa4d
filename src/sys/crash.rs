//! What a panic does to the process of an agent: it is written down, told, and ends the process, so that nothing goes
//! on with half of its threads. `twinward run` and `twinward try` call [`install`]; where nobody did, as in tests of
//! the library, a panic is what the build makes of it.
//!
//! The hook writes one line to the file of [`crash_file`], one line to the log, and aborts (SIGABRT). The file says
//! what was at work: the thread by its name, or inside of [`task`] the name of that. A second panic meanwhile is left
//! out, and if anything hangs the process ends all the same. What no hook sees (SIGKILL, a full stack, no memory)
//! leaves no line.

use std::cell::Cell;
use std::panic::PanicHookInfo;
use std::path::Path;
use std::pin::pin;
use std::process::abort;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::clock::Clock;
use super::crash_file::{self, Crash};

/// The name of everything that a hub can bring about by what it sends: link, twin, direct methods.
pub const LINK: &str = "link";

/// Longest time between a panic and the end of the process.
const LIMIT: Duration = Duration::from_secs(2);

thread_local! {
    static TASK: Cell<Option<&'static str>> = const { Cell::new(None) };
}

static CRASHING: AtomicBool = AtomicBool::new(false);

/// From now on a panic in any thread ends the process. It is written down in the runtime directory, if that is there.
pub fn install(runtime_directory: &Path, clock: Arc<dyn Clock>) {
    let file = crash_file::path(runtime_directory);
    #[cfg(feature = "lab")]
    lab::prepare();
    std::panic::set_hook(Box::new(move |panic| {
        if CRASHING.swap(true, Ordering::SeqCst) {
            // Another thread was first, and ends the process when it has said so.
            thread::sleep(LIMIT);
            abort();
        }
        // A disk or a standard error that hangs holds nothing up. Without this thread it is only likely.
        let _ = thread::Builder::new().name("crash".to_owned()).spawn(|| {
            thread::sleep(LIMIT);
            abort();
        });
        let crash = describe(panic, clock.as_ref());
        let stored = crash_file::append(&file, &crash);
        let Crash { part, message, place, .. } = crash;
        tracing::error!(part, place, "a thread panicked, the process ends: {message}");
        if let Err(error) = stored {
            tracing::error!(%error, file = %file.display(), "the crash cannot be written down");
        }
        abort();
    }));
}

fn describe(panic: &PanicHookInfo<'_>, clock: &dyn Clock) -> Crash {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("without words");
    Crash::new(&at_work(), clock.now().wall.utc, message, &place)
}

/// The task that this thread is at, else the thread.
fn at_work() -> String {
    match TASK.get() {
        Some(task) => task.to_owned(),
        None => thread::current().name().unwrap_or("unnamed").to_owned(),
    }
}

/// Does work that shares its thread with other work. If it panics, it is known by this name.
pub async fn task<F: Future>(name: &'static str, work: F) -> F::Output {
    let mut work = pin!(work);
    std::future::poll_fn(|context| {
        let before = TASK.replace(Some(name));
        if_asked();
        let polled = work.as_mut().poll(context);
        TASK.set(before);
        polled
    })
    .await
}

/// In programs with the feature `lab`, panics if `LAB_CRASH` names what is at work; in those for devices, does nothing.
/// The threads of collectors and of the core begin with it, so that tests see what a crash of each does.
pub fn if_asked() {
    #[cfg(feature = "lab")]
    lab::crash_if_asked();
}

#[cfg(feature = "lab")]
mod lab {
    use std::sync::OnceLock;

    static ASKED: OnceLock<String> = OnceLock::new();

    /// Reads the variable: an agent obeys it, tests of the library do not.
    pub(super) fn prepare() {
        if let Ok(part) = std::env::var("LAB_CRASH") {
            let _ = ASKED.set(part);
        }
    }

    pub(super) fn crash_if_asked() {
        #[expect(clippy::panic, reason = "this is what it is there for")]
        if let Some(part) = ASKED.get()
            && *part == super::at_work()
        {
            panic!("{part} crashes because LAB_CRASH says so");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_task_is_known_by_its_name_and_a_thread_by_its_own() {
        let named = thread::Builder::new().name("OSBaseline".to_owned()).spawn(at_work).unwrap().join().unwrap();
        assert_eq!(named, "OSBaseline");
        let mut context = Context::from_waker(Waker::noop());
        // One that waits leaves the thread to others.
        let mut waits = true;
        let inner = std::future::poll_fn(move |_| {
            assert_eq!(at_work(), "inner");
            if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) }
        });
        let mut outer = pin!(task("outer", async {
            assert_eq!(at_work(), "outer");
            task("inner", inner).await;
            assert_eq!(at_work(), "outer");
        }));
        assert!(outer.as_mut().poll(&mut context).is_pending());
        assert!(!["outer", "inner"].contains(&at_work().as_str()));
        assert!(outer.as_mut().poll(&mut context).is_ready());
        assert!(!["outer", "inner"].contains(&at_work().as_str()));
    }
}
