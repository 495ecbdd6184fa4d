//! Takes every snapshot of this machine a few times, as the agent does, each on a thread of its own, and says what that
//! costs: processor time with that of the programs that were run for it, and memory above what the process had before.
//! `scripts/bench/snapshots.sh` puts a load of processes and sockets around it. Standard output is one JSON object a
//! line: `name`, `round`, `cpu_ms`, `items`, `state`; then one a round with `name` = `all` and `extra_kib`.

use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};
use twinward::collect::SNAPSHOTS;
use twinward::collect::snapshot::{self, SnapshotContext};
use twinward::sys::clock::SystemClock;
use twinward::sys::host::Host;

const ROUNDS: u32 = 5;

/// Of this process and of the children that it waited for. The kernel counts the latter in ticks of 10 ms.
fn cpu_ms(host: &Host) -> Result<f64, Box<dyn std::error::Error>> {
    let own = clock_gettime(ClockId::ProcessCPUTime);
    let stat = host.read_text("/proc/self/stat", 4096)?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    #[expect(clippy::cast_precision_loss, reason = "some seconds at most")]
    let own = own.tv_sec as f64 * 1e3 + own.tv_nsec as f64 / 1e6;
    Ok(own + (ticks(13) + ticks(14)) * 10.0)
}

/// A line of `/proc/self/status`, in KiB.
fn kib(host: &Host, key: &str) -> Result<i64, Box<dyn std::error::Error>> {
    let status = host.read_text("/proc/self/status", 8192)?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line")?;
    Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = Host::system();
    let clock = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
    for round in 1..=ROUNDS {
        // Sets the peak back to what is in use now (proc(5)).
        std::io::Write::write_all(&mut std::fs::OpenOptions::new().write(true).open("/proc/self/clear_refs")?, b"5")?;
        let (before, began) = (kib(&host, "VmRSS")?, cpu_ms(&host)?);
        for name in SNAPSHOTS {
            let context = SnapshotContext::plain(host.clone(), clock.clone());
            let start = cpu_ms(&host)?;
            let taken =
                std::thread::spawn(move || snapshot::take(*name, &context)).join().map_err(|_| "it crashed")??;
            let (spent, items) = (cpu_ms(&host)? - start, taken.snapshot.items.len());
            println!(
                "{{\"name\":\"{name}\",\"round\":{round},\"cpu_ms\":{spent:.1},\"items\":{items},\"state\":\"{:?}\"}}",
                taken.health.state
            );
        }
        let (spent, extra) = (cpu_ms(&host)? - began, kib(&host, "VmHWM")? - before);
        println!("{{\"name\":\"all\",\"round\":{round},\"cpu_ms\":{spent:.1},\"extra_kib\":{extra}}}");
    }
    Ok(())
}
