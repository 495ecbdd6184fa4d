use proptest::prelude::*;

use super::*;

const ALWAYS: Mono = Mono::from_boot(Duration::from_secs(1_000_000));

fn at(milliseconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(1_780_000_000_000 + milliseconds).unwrap()
}

fn ssh(origin: Origin, act: Act, form: Form, pid: u32, user: &str, milliseconds: i64) -> Sighting {
    let said = Said { pid: Some(pid), ..Said::new(Service::Ssh, act, form).by(user).from("192.0.2.7") };
    Sighting { at: at(milliseconds), coarse: false, origin, said }
}

fn btmp(pid: u32, user: &str, milliseconds: i64) -> Sighting {
    let mut record = ssh(Origin::Btmp, Fail, Form::Record, pid, user, milliseconds);
    (record.at, record.coarse) = (at(milliseconds - milliseconds.rem_euclid(1000)), true);
    record
}

fn wtmp(act: Act, pid: u32, user: &str, milliseconds: i64) -> Sighting {
    let mut record = ssh(Origin::Wtmp, act, Form::Record, pid, user, milliseconds);
    record.said = Said { service: Service::Unknown, ..record.said }.on("pts/0");
    record
}

/// All attempts that come out of these sightings, read at once.
fn told(sightings: impl IntoIterator<Item = Sighting>) -> Vec<Attempt> {
    let mut correlator = Correlator::default();
    let now = Mono::default();
    let mut told: Vec<_> = sightings.into_iter().filter_map(|sighting| correlator.see(sighting, now)).collect();
    told.extend(correlator.due(ALWAYS));
    told
}

/// The same, with each sighting read so late that what came before is told.
fn told_late(sightings: impl IntoIterator<Item = Sighting>) -> Vec<Attempt> {
    let mut correlator = Correlator::default();
    let mut told = Vec::new();
    for (sighting, second) in sightings.into_iter().zip((0..).step_by(20)) {
        let now = Mono::from_boot(Duration::from_secs(second));
        told.extend(correlator.due(now));
        told.extend(correlator.see(sighting, now));
    }
    told.extend(correlator.due(ALWAYS));
    told
}

fn acts(attempts: &[Attempt]) -> Vec<Act> {
    attempts.iter().map(|attempt| attempt.said.act).collect()
}

use Act::{Fail, Logout, Success};
use Form::{Closing, Module, Probe, Session, Verdict};
use Origin::{AuthLog, Journal};

#[test]
fn a_success_in_three_places_is_one_event_with_all_that_is_known() {
    let sightings = [
        ssh(AuthLog, Success, Verdict, 812, "pi", 0),
        ssh(Journal, Success, Verdict, 812, "pi", 100),
        wtmp(Success, 830, "pi", 2500),
    ];
    for all in [told(sightings.clone()), told_late(sightings)] {
        let [one] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((one.said.pid, one.said.service), (Some(812), Service::Ssh));
    }
    let [one] = &told([ssh(Journal, Success, Verdict, 812, "pi", 0), wtmp(Success, 830, "pi", 9)])[..] else {
        panic!("not one")
    };
    assert_eq!(one.said.terminal.as_deref(), Some("pts/0"));
    assert_eq!(one.origins().collect::<Vec<_>>(), [Journal, Origin::Wtmp]);
}

#[test]
fn three_wrong_passwords_on_one_connection_are_three_events() {
    let mut sightings = vec![ssh(Journal, Fail, Probe, 812, "admin", 0)];
    for second in [0, 3, 6] {
        let at = second * 1000 + 500;
        sightings.push(ssh(Journal, Fail, Verdict, 812, "admin", at));
        sightings.push(btmp(812, "admin", at));
        sightings.push(ssh(AuthLog, Fail, Verdict, 812, "admin", at));
    }
    sightings.push(ssh(Journal, Fail, Closing, 812, "admin", 60_000));
    sightings.push(ssh(AuthLog, Fail, Closing, 812, "admin", 60_000));
    assert_eq!(acts(&told(sightings.clone())), [Fail; 3]);
    assert_eq!(acts(&told_late(sightings)), [Fail; 3]);
}

/// sshd tells btmp of a name that nobody has when it hears it, and again when a password is refused.
#[test]
fn an_unknown_name_with_one_password_is_one_event() {
    let first = Sighting { said: Said { form: Probe, ..btmp(812, "admin", 0).said }, ..btmp(812, "admin", 0) };
    let sightings = [
        first.clone(),
        ssh(AuthLog, Fail, Probe, 812, "admin", 0),
        ssh(AuthLog, Fail, Verdict, 812, "admin", 1800),
        btmp(812, "admin", 1800),
        ssh(AuthLog, Fail, Closing, 812, "admin", 1900),
    ];
    assert_eq!(acts(&told(sightings.clone())), [Fail]);
    assert_eq!(acts(&told_late(sightings)), [Fail]);
    assert_eq!(acts(&told([first, btmp(812, "admin", 1800)])), [Fail]);
}

#[test]
fn a_connection_that_only_tried_is_one_event() {
    let sightings = |origin| {
        [
            ssh(origin, Fail, Probe, 812, "admin", 0),
            ssh(origin, Fail, Probe, 812, "admin", 100),
            ssh(origin, Fail, Closing, 812, "admin", 200),
        ]
    };
    assert_eq!(acts(&told(sightings(Journal).into_iter().chain(sightings(AuthLog)))), [Fail]);
    assert_eq!(acts(&told([ssh(Journal, Fail, Closing, 9, "root", 0)])), [Fail]);
    // Another connection is another attempt.
    assert_eq!(
        acts(&told([ssh(Journal, Fail, Closing, 9, "root", 0), ssh(Journal, Fail, Closing, 8, "root", 0)])).len(),
        2
    );
}

#[test]
fn keys_that_do_not_fit_join_the_success_that_follows() {
    let sightings = |origin| {
        [
            ssh(origin, Fail, Probe, 812, "pi", 0),
            ssh(origin, Fail, Probe, 812, "pi", 100),
            ssh(origin, Success, Verdict, 812, "pi", 900),
        ]
    };
    assert_eq!(acts(&told(sightings(Journal).into_iter().chain(sightings(AuthLog)))), [Success]);
    // Too late for that: both are told, and the other origin tells nothing new.
    let late = told_late(sightings(Journal).into_iter().chain(sightings(AuthLog)));
    assert_eq!(acts(&late), [Fail, Success]);
}

#[test]
fn a_wrong_and_then_a_right_password_are_two_events() {
    let pam = |origin| ssh(origin, Fail, Module, 5, "pi", 0);
    let sudo = |sighting: Sighting| Sighting { said: Said { service: Service::Sudo, ..sighting.said }, ..sighting };
    let both = |after| {
        [Journal, AuthLog].into_iter().flat_map(move |o| [sudo(pam(o)), sudo(ssh(o, Success, Verdict, 5, "pi", after))])
    };
    assert_eq!(acts(&told(both(2500))), [Fail, Success]);
    // Another module let the user in at once.
    assert_eq!(acts(&told(both(20))), [Success]);
    // The last word of sudo comes much later and is no attempt of its own.
    assert_eq!(acts(&told_late([sudo(pam(Journal)), sudo(ssh(Journal, Fail, Verdict, 5, "pi", 40_000))])), [Fail]);
}

#[test]
fn the_end_of_a_session_is_told_once() {
    let sightings = [
        ssh(Journal, Logout, Closing, 815, "pi", 0),
        ssh(Journal, Logout, Session, 812, "pi", 30),
        wtmp(Logout, 830, "pi", 40),
        ssh(AuthLog, Logout, Closing, 815, "pi", 0),
        ssh(AuthLog, Logout, Session, 812, "pi", 30),
    ];
    assert_eq!(acts(&told(sightings)), [Logout]);
}

#[test]
fn what_contradicts_is_another_attempt() {
    let one = ssh(Journal, Fail, Verdict, 812, "pi", 0);
    let change = |change: fn(&mut Sighting)| {
        let mut other = btmp(812, "pi", 0);
        change(&mut other);
        told([one.clone(), other]).len()
    };
    assert_eq!(change(|_| {}), 1);
    assert_eq!(change(|other| other.said.user = Some("root".into())), 2);
    assert_eq!(change(|other| other.said.pid = Some(813)), 2);
    assert_eq!(change(|other| other.said.address = "192.0.2.8".parse().ok()), 2);
    assert_eq!(change(|other| other.said.service = Service::Login), 2);
    assert_eq!(change(|other| other.at = at(200_000)), 2);
    assert_eq!(change(|other| other.said.act = Success), 2);
}

#[test]
fn long_names_are_cut_in_records() {
    let name = "u".repeat(40);
    assert_eq!(told([ssh(Journal, Fail, Verdict, 1, &name, 0), btmp(1, &name[..32], 0)]).len(), 1);
}

#[test]
fn too_many_that_wait_are_told_early_and_none_is_forgotten() {
    let count = u32::try_from(PENDING * 3).unwrap();
    let mut correlator = Correlator::default();
    let mut told = Vec::new();
    for pid in 1..=count {
        told.extend(correlator.see(ssh(Journal, Fail, Verdict, pid, "x", 0), Mono::default()));
        assert!(correlator.waiting.len() <= PENDING);
    }
    told.extend(correlator.due(ALWAYS));
    assert_eq!(told.iter().map(|a| a.said.pid.unwrap()).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
    for pid in 0..5000 {
        correlator.see(ssh(Journal, Fail, Verdict, pid, "y", 0), Mono::default());
        assert!(correlator.told.len() <= REMEMBERED);
    }
}

/// One attempt as the property makes it: process, user, origin address, outcome, time after the one before.
#[derive(Clone, Debug)]
struct Made {
    user: u8,
    address: u8,
    act: Act,
    gap: i64,
}

fn made() -> impl Strategy<Value = Made> {
    (0_u8..3, 0_u8..2, prop::sample::select(vec![Success, Fail]), prop_oneof![0_i64..300, 0_i64..30_000])
        .prop_map(|(user, address, act, gap)| Made { user, address, act, gap })
}

proptest! {
    /// Whatever attempts there are and however the lines of the sources come in between each other: as many events as
    /// attempts, with the right outcomes, also over a restart at any place.
    #[test]
    fn each_attempt_is_one_event(
        attempts in prop::collection::vec(made(), 1..40),
        origins in prop::sample::subsequence(vec![Journal, AuthLog, Origin::Btmp], 1..=3),
        order in prop::collection::vec(0_usize..3, 130),
        ticks in prop::collection::vec(0_u64..800, 130),
        restart in 0_usize..130,
    ) {
        let (mut time, mut wanted) = (0, Vec::new());
        let mut queues = vec![VecDeque::new(); origins.len()];
        for (made, pid) in attempts.iter().zip(100..) {
            time += made.gap;
            let user = format!("user{}", made.user);
            let seen = |queue: &mut VecDeque<Sighting>, origin| {
                let mut sighting = match origin {
                    Origin::Btmp if made.act == Success => wtmp(Success, pid + 1000, &user, time + 50),
                    Origin::Btmp => btmp(pid, &user, time),
                    log => ssh(log, made.act, Verdict, pid, &user, time),
                };
                sighting.said.address = format!("192.0.2.{}", made.address).parse().ok();
                // All these are on one terminal after another, which is not what is tested.
                sighting.said.terminal = None;
                queue.push_back(sighting);
            };
            for (queue, origin) in queues.iter_mut().zip(&origins) {
                seen(queue, *origin);
            }
            wanted.push(made.act);
        }
        // The sources are read in the order of their times, but what is at hand may be read a little early or late.
        let mut feed = Vec::new();
        let mut order = order.into_iter().cycle();
        while let Some(oldest) = queues.iter().filter_map(|queue| queue.front().map(|s| s.at)).min() {
            let near: Vec<_> = (0..queues.len())
                .filter(|q| queues[*q].front().is_some_and(|s| s.at.duration_since(oldest).as_millis() < 3000))
                .collect();
            let chosen = near[order.next().unwrap() % near.len()];
            feed.extend(queues[chosen].pop_front());
        }
        let mut correlator = Correlator::default();
        let (mut told, mut now) = (Vec::new(), Mono::default());
        for (place, sighting) in feed.into_iter().enumerate() {
            now = now.after(Duration::from_millis(ticks[place % ticks.len()]));
            told.extend(correlator.due(now));
            told.extend(correlator.see(sighting, now));
            if place == restart {
                let text = serde_json::to_string(&correlator.memory(REMEMBERED)).unwrap();
                correlator = Correlator::resume(serde_json::from_str(&text).unwrap(), now);
            }
        }
        told.extend(correlator.due(ALWAYS));
        let count = |acts: &[Act], act| acts.iter().filter(|a| **a == act).count();
        for act in [Success, Fail, Logout] {
            prop_assert_eq!(count(&acts(&told), act), count(&wanted, act), "{:?}: {:#?}", act, told);
        }
    }
}
