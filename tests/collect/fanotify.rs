//! fanotify: each program that is started is seen, whatever the kernel opens for it. Needs root.

#![expect(clippy::disallowed_methods, reason = "the tests are about real processes")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use twinward::model::payload::ProcessCreate;
use twinward::settings::ProcessSource;

use crate::processes::sees_a_marked_process;
use crate::{Marked, alone, drain_until, marker, open, process};

#[test]
#[ignore = "needs root; run by CI"]
fn fanotify_sees_a_marked_process() {
    let _alone = alone();
    sees_a_marked_process(ProcessSource::Fanotify);
}

/// Starts a program many times; gives the process ids.
fn storm(program: &Path, times: usize) -> Vec<u32> {
    let run = |_| {
        let mut child = Command::new(program).stdin(Stdio::null()).spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    (0..times).map(run).collect()
}

fn program(at: PathBuf, from: Option<&str>) -> PathBuf {
    match from {
        Some(from) => drop(fs::copy(from, &at).unwrap()),
        None => drop(Command::new("/bin/sh").args(["-c", "printf '#!/bin/sh -e\\nexit 0\\n' >$0"]).arg(&at).status()),
    }
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).unwrap();
    at
}

/// A file system that is unmounted at the end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().unwrap();
    }
}

#[test]
#[ignore = "needs root; run by CI"]
fn fanotify_sees_each_program_that_ends_at_once() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut source = open(ProcessSource::Fanotify);
    // It was not there when the source was opened.
    let mounted = Mounted(directory.path().join("new"));
    fs::create_dir(&mounted.0).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted.0).status().unwrap().success());
    let first = Marked::start(marker());
    drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.command_line.contains(&first.marker)));

    let script = program(directory.path().join("script"), None);
    let copy = program(mounted.0.join("copy"), Some("/bin/true"));
    let link = fs::canonicalize("/bin/true").unwrap();
    let (programs, end) = ([link, script.clone(), copy], marker());
    let (started, last) = (programs.clone(), end.clone());
    let runner = std::thread::spawn(move || {
        let pids: Vec<_> = started.iter().map(|program| storm(program, 300)).collect();
        (pids, Marked::start(last))
    });
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.command_line.contains(&end)));
    let (pids, _last) = runner.join().unwrap();
    let mut seen: HashMap<u32, Vec<&ProcessCreate>> = HashMap::new();
    for start in all.iter().map(process) {
        seen.entry(start.process_id).or_default().push(start);
    }
    let shell = fs::canonicalize("/bin/sh").unwrap();
    for (pids, program) in pids.iter().zip(&programs) {
        for pid in pids {
            let [start] = seen.get(pid).map(Vec::as_slice).unwrap_or_default() else {
                panic!("{} by {pid}: {:?}", program.display(), seen.get(pid));
            };
            let is_script = *program == script;
            let expected = if is_script { &shell } else { program };
            let shown = fs::canonicalize(&start.executable).unwrap();
            assert_eq!(shown, *expected, "{start:?}");
            let named = start.extra_details.get("Script").map(String::as_str);
            assert_eq!(named, is_script.then(|| program.to_str().unwrap()), "{start:?}");
            // What is shown is never of the process that it was before.
            let shown = &start.command_line;
            match start.extra_details["CommandLineSource"].as_str() {
                "proc" if is_script => assert_eq!(*shown, format!("/bin/sh -e {}", program.display())),
                "proc" => assert_eq!(shown, program.to_str().unwrap()),
                _ => assert_eq!(shown, ""),
            }
        }
    }
}

/// A program that starts itself again in its own place is not shown with its former command line.
#[test]
#[ignore = "needs root; run by CI"]
fn fanotify_tells_a_program_from_its_former_run() {
    let _alone = alone();
    let mut source = open(ProcessSource::Fanotify);
    let mark = marker();
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read -r line; exec /bin/sh -c 'read -r line; exit 0' \"$0-again\"", &mark])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.command_line.contains(&mark)));
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    let again = drain_until(source.as_mut(), |seen| seen.iter().any(|p| p.process_id == child.id()));
    let again: Vec<_> = again.iter().map(process).filter(|p| p.process_id == child.id()).collect();
    assert_eq!(again.len(), 1, "{again:?}");
    assert!(again[0].command_line.ends_with(&format!("{mark}-again")), "{again:?}");
    drop(input);
    child.wait().unwrap();
}

/// A file that the kernel refuses is told as such, and hides nothing of what the process starts then.
#[test]
#[ignore = "needs root; run by CI"]
fn fanotify_tells_what_a_process_starts_after_a_refused_file() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let refused = program(directory.path().join("refused"), None);
    fs::write(&refused, "no program\n").unwrap();
    let refused = refused.to_str().unwrap();
    let mut source = open(ProcessSource::Fanotify);
    let mark = marker();
    let text = "import os, sys\n\
                try: os.execv(sys.argv[1], sys.argv[1:])\n\
                except OSError: sys.stdin.readline()\n\
                os.execv('/bin/sh', ['/bin/sh', '-c', 'read -r line; exit 0', sys.argv[2]])";
    let python = Command::new("python3").args(["-c", text, refused, &mark]).stdin(Stdio::piped()).spawn();
    let mut child = python.unwrap();
    let is_refused = |p: &ProcessCreate| p.process_id == child.id() && p.executable == refused;
    let all = drain_until(source.as_mut(), |seen| seen.iter().any(is_refused));
    let told = all.iter().map(process).find(|p| is_refused(p)).unwrap();
    assert_eq!(told.extra_details["ExecUnconfirmed"], "true", "{told:?}");
    assert_eq!(told.command_line, "");
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"\n").unwrap();
    let is_shell = |p: &ProcessCreate| p.process_id == child.id() && p.command_line.contains(&mark);
    drain_until(source.as_mut(), |seen| seen.iter().any(is_shell));
    drop(input);
    child.wait().unwrap();
}

/// More than the kernel's queue holds is a loss that is told.
#[test]
#[ignore = "needs root; run by CI"]
fn fanotify_tells_that_its_queue_was_full() {
    let _alone = alone();
    let queue: usize = fs::read_to_string("/proc/sys/fs/fanotify/max_queued_events").unwrap().trim().parse().unwrap();
    let mut source = open(ProcessSource::Fanotify);
    // Nobody reads meanwhile. A start is two notices.
    let mut last = Vec::new();
    for _ in 0..=queue / 2 {
        let child = Command::new("/bin/true").stdin(Stdio::null()).spawn().unwrap();
        last.push(child);
        if last.len() > 32 {
            last.remove(0).wait().unwrap();
        }
    }
    for mut child in last {
        child.wait().unwrap();
    }
    let (mut losses, mut seen) = (Vec::new(), Vec::new());
    while losses.is_empty() {
        let before = seen.len();
        losses.extend(source.drain(Duration::from_millis(10), &mut seen).unwrap().losses);
        assert!(!losses.is_empty() || seen.len() > before, "no loss was told");
    }
    assert!(seen.len() >= queue / 2 - 1024, "{}", seen.len());
    assert_eq!(losses[0].at_most, None);
    assert!(losses[0].start < losses[0].end, "{losses:?}");
}
