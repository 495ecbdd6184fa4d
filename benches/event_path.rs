//! What the parts of an event's path cost: time and allocations for each record, observation or event.
//!
//! `cargo bench --bench event_path`

#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::time::Duration;

use divan::{AllocProfiler, Bencher, black_box, counter::ItemsCount};
use jiff::tz::TimeZone;
use twinward::collect::redact::Redactor;
use twinward::model::event::{EventName, Observation};
use twinward::model::ids::AgentId;
use twinward::model::message::MessageRoot;
use twinward::model::payload::{Payload, ProcessCreate};
use twinward::model::time::{Mono, Now, Timestamp};
use twinward::model::units::{ByteSize, IsoDuration};
use twinward::pipeline::Pipeline;
use twinward::settings::agent_config::{AgentConfig, Aggregation};
use twinward::spool::{Spool, SpoolOptions};
use twinward::sys::{audit::assemble, bpf, proc_event};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// As many observations as a drain gives at most.
const BATCH: usize = 256;

const ARGUMENTS: [&str; 5] =
    ["/usr/bin/rsync", "-a", "--delete", "/var/lib/sensor/", "backup@198.51.100.7:/srv/sensor/"];

fn now() -> Now {
    let utc = jiff::Timestamp::from_second(1_795_340_000).unwrap();
    Now { wall: Timestamp::trusted(utc), mono: Mono::from_boot(Duration::from_secs(1000)) }
}

/// A start whose command line has a number of its own.
fn start(number: usize) -> Observation {
    let what = ProcessCreate {
        executable: ARGUMENTS[0].to_owned(),
        process_id: 4711,
        parent_process_id: 1,
        user_id: "1000".to_owned(),
        user_name: Some("sensor".to_owned()),
        command_line: format!("{} {number}", ARGUMENTS.join(" ")),
        extra_details: [("CgroupId", "4711"), ("CommandLineSource", "kernel")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    };
    Observation { at: now().wall, serial: 0, what: Payload::ProcessCreate(what) }
}

fn pipeline(aggregated: bool) -> Pipeline {
    let mut config = AgentConfig::default();
    let interval = IsoDuration::from_secs(3600);
    config.aggregation.insert(EventName::ProcessCreate, Aggregation { enabled: aggregated, interval });
    Pipeline::new(&config, TimeZone::UTC, now())
}

#[divan::bench_group]
mod decode {
    use super::{ARGUMENTS, Bencher, ItemsCount, assemble, black_box, bpf, now, proc_event};

    /// A record of the ring, as `bpf/twinward.bpf.c` writes it.
    fn exec_record() -> Vec<u8> {
        let arguments = ARGUMENTS.map(|argument| format!("{argument}\0")).concat();
        let program = format!("{}\0", ARGUMENTS[0]);
        let (kept, path) = (u32::try_from(arguments.len()).unwrap(), u32::try_from(program.len()).unwrap());
        let fixed = [1, 4711, 5, 1, 1, 1000, 1000, u32::MAX, u32::MAX, 0, 0, kept, 12, 0, kept, path, 1, 0];
        let mut record: Vec<u8> = fixed.into_iter().flat_map(u32::to_ne_bytes).collect();
        for text in [arguments, program, "\0".to_owned()] {
            record.extend_from_slice(text.as_bytes());
        }
        record
    }

    #[divan::bench]
    fn ebpf_exec(bencher: Bencher<'_, '_>) {
        let record = exec_record();
        assert!(bpf::record::decode(&record).is_some());
        bencher.counter(ItemsCount::new(1_u32)).bench(|| bpf::record::decode(black_box(&record)).is_some());
    }

    /// The two records of an exec that the agent asks for, put together.
    #[divan::bench]
    fn audit_exec(bencher: Bencher<'_, '_>) {
        let call = "audit(1795571169.955:10): arch=c000003e syscall=59 success=yes exit=0 a0=560b2c864660 a1=7ffe a2=10 \
                    a3=8 items=2 ppid=1 pid=4711 auid=4294967295 uid=1000 gid=1000 euid=1000 suid=1000 fsuid=1000 \
                    egid=1000 sgid=1000 fsgid=1000 tty=(none) ses=4294967295 comm=\"rsync\" exe=\"/usr/bin/rsync\" key=\"t\"";
        let quoted: Vec<_> = ARGUMENTS.iter().enumerate().map(|(n, text)| format!("a{n}=\"{text}\"")).collect();
        let arguments = format!("audit(1795571169.955:10): argc={} {}", quoted.len(), quoted.join(" "));
        let mut assembler = assemble::Assembler::new(4097);
        let mut exec = move || {
            assembler.take(assemble::SYSCALL, black_box(call.as_bytes()), now().mono);
            assembler.take(assemble::EXECVE, black_box(arguments.as_bytes()), now().mono).is_some()
        };
        assert!(exec());
        bencher.counter(ItemsCount::new(1_u32)).bench_local(exec);
    }

    #[divan::bench]
    fn connector_exec(bencher: Bencher<'_, '_>) {
        let (connector, event) = ([1_u32, 1, 7, 0, 40], [2_u32, 0, 5, 1, 4711, 4711, 0, 0, 0, 0]);
        let message: Vec<u8> = connector.into_iter().chain(event).flat_map(u32::to_ne_bytes).collect();
        assert!(proc_event::decode(&message).is_some());
        bencher.counter(ItemsCount::new(1_u32)).bench(|| proc_event::decode(black_box(&message)).is_some());
    }
}

#[divan::bench_group]
mod redact {
    use super::{ARGUMENTS, Bencher, ItemsCount, Redactor, black_box};

    fn mask(bencher: Bencher<'_, '_>, arguments: &[&str], masked: usize) {
        let redactor = Redactor::new([]);
        let join = || redactor.join(black_box(arguments).iter().copied(), false).masked;
        assert_eq!(join(), masked);
        bencher.counter(ItemsCount::new(1_u32)).bench_local(join);
    }

    #[divan::bench]
    fn nothing_to_hide(bencher: Bencher<'_, '_>) {
        mask(bencher, &ARGUMENTS, 0);
    }

    #[divan::bench]
    fn a_password_and_a_url(bencher: Bencher<'_, '_>) {
        mask(bencher, &["/usr/bin/curl", "--password", "x7-2kd", "https://u:p9q@example.org/a?b=c"], 2);
    }

    /// As long as what is kept of a command line.
    #[divan::bench]
    fn four_kilobytes(bencher: Bencher<'_, '_>) {
        let long: Vec<String> = (0..64).map(|number| format!("--option-{number:03}={}", "v".repeat(50))).collect();
        mask(bencher, &long.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    }
}

/// From 256 observations to what the spool is asked to store.
#[divan::bench_group]
mod observe {
    use super::{BATCH, Bencher, ItemsCount, now, pipeline, start};

    fn batch(bencher: Bencher<'_, '_>, aggregated: bool, different: bool) {
        let mut pipeline = pipeline(aggregated);
        let make = || (0..BATCH).map(|number| start(if different { number } else { 0 })).collect::<Vec<_>>();
        bencher
            .counter(ItemsCount::new(BATCH))
            .with_inputs(make)
            .bench_local_values(|batch| pipeline.observe(batch, now()));
    }

    /// Each becomes an event, written as JSON.
    #[divan::bench]
    fn each_an_event(bencher: Bencher<'_, '_>) {
        batch(bencher, false, true);
    }

    #[divan::bench]
    fn aggregated_the_same(bencher: Bencher<'_, '_>) {
        batch(bencher, true, false);
    }

    #[divan::bench]
    fn aggregated_256_kinds(bencher: Bencher<'_, '_>) {
        batch(bencher, true, true);
    }
}

#[divan::bench_group]
mod store {
    use super::{
        AgentId, BATCH, Bencher, ByteSize, Duration, ItemsCount, MessageRoot, Spool, SpoolOptions, black_box, now,
        pipeline, start,
    };

    fn spool(directory: &std::path::Path) -> Spool {
        let options = SpoolOptions {
            directory: directory.to_owned(),
            runtime_directory: None,
            cache_limit: ByteSize::bytes(64 << 20),
            commit_interval: Duration::from_secs(3600),
            min_free: ByteSize::bytes(0),
        };
        Spool::open(options, now()).unwrap().0
    }

    /// One transaction of 256 events, where temporary files are; on a device this is a tmpfs.
    #[divan::bench(sample_count = 50, sample_size = 1)]
    fn a_batch_of_events(bencher: Bencher<'_, '_>) {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = spool(directory.path());
        let mut pipeline = pipeline(false);
        let changes = pipeline.observe((0..BATCH).map(start).collect(), now());
        bencher.counter(ItemsCount::new(BATCH)).bench_local(|| spool.apply(black_box(&changes), now()).unwrap());
    }

    /// A message of 256 stored events.
    #[divan::bench]
    fn a_message(bencher: Bencher<'_, '_>) {
        let root = MessageRoot::new("0.1.0", AgentId::random());
        let bodies: Vec<String> = pipeline(false)
            .observe((0..BATCH).map(start).collect(), now())
            .into_iter()
            .filter_map(|change| match change {
                twinward::model::change::Change::Event(event) => Some(event.body),
                _ => None,
            })
            .collect();
        assert_eq!(bodies.len(), BATCH);
        bencher.counter(ItemsCount::new(BATCH)).bench(|| root.body(black_box(&bodies)).len());
    }
}
