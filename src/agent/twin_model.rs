//! The twin against a model: whatever the hub does to it, however its notices and answers fare and in which order they
//! come, what is announced is a section of the hub, what is in force is what the contract says of it, and when nothing
//! is under way any more, hub, agent and model agree.

mod bench;
mod keys;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use bench::{Bench, Says};
use keys::{Write, Writes, patch, writes};

#[derive(Clone, Debug)]
enum Step {
    /// Each notice comes so many times; never at all too.
    Patch(Writes, u8),
    Replace(Writes, u8),
    /// Patches at one moment.
    Burst(Vec<Writes>),
    /// A notice with the version in force, or one less, that says something else.
    Stale(Writes, bool),
    /// Desired gets a text that is too large for the agent, or loses it.
    Bloat(bool),
    /// These are written unseen, and the connection ends.
    Cut(Vec<Writes>),
    MakeAnew(Writes),
    /// The process ends, and another begins with what was stored.
    Restart,
    /// The next letters of the hub take so many ms.
    Delays(Vec<u64>),
    /// So the hub does with the next requests.
    Gets(Vec<Says>),
    Reports(Vec<Says>),
    Pass(u64),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let delay = prop_oneof![4 => 0..200_u64, 2 => 0..2000_u64, 1 => 50_000..70_000_u64];
    let get = prop_oneof![
        Just(Says::Yes),
        prop_oneof![Just(404), Just(429), Just(500)].prop_map(Says::No),
        Just(Says::Nothing),
        Just(Says::Rubbish),
    ];
    let status = || prop_oneof![Just(400), Just(412), Just(413), Just(429), Just(500), Just(503)];
    let report = prop_oneof![
        Just(Says::Yes),
        status().prop_map(Says::No),
        prop_oneof![Just(500), Just(503)].prop_map(Says::YesBut),
        Just(Says::Nothing),
    ];
    let times = || prop_oneof![6 => Just(1_u8), 2 => Just(2), 1 => Just(0)];
    prop_oneof![
        6 => (writes(), times()).prop_map(|(w, n)| Step::Patch(w, n)),
        4 => (writes(), times()).prop_map(|(w, n)| Step::Replace(w, n)),
        2 => prop::collection::vec(writes(), 2..30).prop_map(Step::Burst),
        1 => (writes(), any::<bool>()).prop_map(|(w, same)| Step::Stale(w, same)),
        1 => any::<bool>().prop_map(Step::Bloat),
        1 => prop::collection::vec(writes(), 0..3).prop_map(Step::Cut),
        1 => writes().prop_map(Step::MakeAnew),
        1 => Just(Step::Restart),
        4 => prop::collection::vec(delay, 1..6).prop_map(Step::Delays),
        2 => prop::collection::vec(get, 1..4).prop_map(Step::Gets),
        2 => prop::collection::vec(report, 1..4).prop_map(Step::Reports),
        8 => prop_oneof![0..1000_u64, 0..10_000_u64, 0..200_000_u64].prop_map(Step::Pass),
        2 => Just(Step::Settle),
    ]
}

fn take(bench: &mut Bench, step: Step) {
    match step {
        Step::Patch(writes, times) => bench.patch(&patch(&writes), times),
        Step::Replace(writes, times) => bench.replace(&writes, times),
        Step::Burst(burst) => {
            for writes in &burst {
                bench.patch(&patch(writes), 1);
            }
        }
        Step::Stale(writes, same) => {
            // An identity that was made anew has no notices of versions that it never had.
            let known = bench.configuration.version.unwrap_or(0).min(bench.version);
            bench.notify(known.saturating_sub(u64::from(!same)), &patch(&writes), 1);
        }
        Step::Bloat(there) => {
            let text = there.then(|| "\u{1}".repeat(12_000));
            bench.patch(&json!({ "bloat": text }), 1);
        }
        Step::Cut(written) => {
            for writes in &written {
                bench.patch(&patch(writes), 0);
            }
            bench.cut();
        }
        Step::MakeAnew(writes) => bench.make_anew(&writes),
        Step::Restart => bench.restart(),
        Step::Delays(delays) => bench.delays = delays.into(),
        Step::Gets(says) => bench.to_gets = says.into(),
        Step::Reports(says) => bench.to_reports = says.into(),
        Step::Pass(ms) => bench.pass(Duration::from_millis(ms)),
        Step::Settle => settle(bench),
    }
    bench.check();
}

fn settle(bench: &mut Bench) {
    bench.settle();
    bench.check_settled(bench.desired.get("bloat").is_none());
}

fn drive(steps: impl IntoIterator<Item = Step>) {
    let mut bench = Bench::new();
    steps.into_iter().chain([Step::Settle]).for_each(|step| take(&mut bench, step));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn effective_reported_and_model_agree_after_each_step(steps in prop::collection::vec(step(), 1..24)) {
        drive(steps);
    }

    /// A hub that answers soon and tells of each change: no section is ever in force that it did not have.
    #[test]
    fn nothing_is_half_applied(
        changes in prop::collection::vec((prop::collection::vec((writes(), any::<bool>()), 1..20), 2..120_u64), 1..6),
        delays in prop::collection::vec(0..200_u64, 1..20),
    ) {
        let mut bench = Bench::new();
        bench.exact = true;
        for (burst, pause) in changes {
            bench.delays = delays.clone().into();
            let last = bench.version;
            for (writes, replace) in burst {
                if replace {
                    bench.replace(&writes, 1);
                } else {
                    bench.patch(&patch(&writes), 1);
                }
            }
            bench.pass(Duration::from_secs(1));
            prop_assert!(bench.version == last || bench.configuration.version == Some(bench.version));
            bench.pass(Duration::from_secs(pause));
        }
        settle(&mut bench);
    }
}

/// A change that was lost and a burst after it.
#[test]
fn a_burst_after_a_lost_notice_is_in_force() {
    drive([
        Step::Patch(vec![(0, Write::Good(0))], 0),
        Step::Burst(vec![vec![], vec![(2, Write::Bad(0))]]),
        Step::Pass(1000),
    ]);
}

#[test]
fn lost_notices_that_change_nothing_are_caught_up_with() {
    drive([Step::Patch(vec![], 0), Step::Patch(vec![], 0), Step::Patch(vec![], 0)]);
}

#[test]
fn a_twin_that_is_too_large_at_the_start_is_told_in_the_reported_section() {
    drive([Step::Bloat(true), Step::Restart, Step::Settle, Step::Bloat(false), Step::Restart]);
}

/// From the notice, over the configuration, to the report as it leaves: within a second, whatever the hub does with the
/// request for the whole twin, and also for a change that follows another one closely.
#[test]
fn a_change_is_in_force_and_on_its_way_to_the_hub_within_a_second() {
    let answers: [(u64, &[Says]); 6] = [
        (0, &[]),
        (100, &[]),
        (240, &[]),
        (3000, &[]),
        (0, &[Says::Nothing]),
        (20, &[Says::No(429), Says::No(500), Says::Rubbish]),
    ];
    for (delay, says) in answers {
        for second in [1, 30, 300, 499, 501, 760, 2000] {
            for replace in [false, true] {
                let mut bench = Bench::new();
                bench.to_gets = says.to_vec().into();
                bench.delays = VecDeque::from([0]);
                bench.get_delay = Some(delay);
                let first = bench.now;
                let write = |bench: &mut Bench, n| {
                    if replace {
                        bench.replace(&vec![(2, Write::Good(n))], 1);
                    } else {
                        bench.patch(&patch(&vec![(2, Write::Good(n))]), 1);
                    }
                };
                write(&mut bench, 0);
                bench.pass(Duration::from_millis(second));
                let then = bench.now;
                write(&mut bench, 1);
                bench.pass(Duration::from_secs(5));
                let case = format!("answers after {delay} ms, {says:?}, {second} ms, replaced {replace}");
                // The first one may have become one with the second.
                for (since, version) in [(first, 2..=3), (then, 3..=3)] {
                    for (what, at) in [("in force", &bench.in_force_at), ("reported", &bench.reported_at)] {
                        let at = at.range(version.clone()).next().map(|(_, at)| at.since(since).as_millis());
                        assert!(at.is_some_and(|ms| ms < 1000), "{what} after {at:?} ms: {case}");
                    }
                }
                // However often somebody changes it, the twin is asked for at a measured pace.
                assert!(bench.gets.windows(2).all(|two| two[1].since(two[0]) >= Duration::from_millis(500)), "{case}");
                settle(&mut bench);
            }
        }
    }
}
/// A report that overtakes the answer to a request for the twin.
#[test]
fn an_answer_from_before_a_report_does_not_hide_what_was_reported() {
    drive([
        Step::Replace(vec![(0, Write::Good(0))], 1),
        Step::Delays(vec![50_000]),
        Step::Replace(vec![], 1),
        Step::Pass(20),
    ]);
}
