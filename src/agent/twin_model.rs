//! The twin against a model: whatever the hub does to it and however its notices fare, the configuration in force, the
//! reported section and a small model of both agree as soon as the agent can know of the change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::configuration::Configuration;
use crate::hub::error::LinkError;
use crate::hub::session::{Action, Input, Session};
use crate::hub::topics::Incoming;
use crate::hub::traffic::{FromHub, LinkState, ToHub};
use crate::model::time::Mono;
use crate::settings::last_good;
use crate::settings::reported::reported;
use crate::settings::twin_keys::OBJECT;

/// A key with its default, what is taken as what, and what is refused.
type Key = (&'static str, &'static str, [(&'static str, &'static str); 2], [&'static str; 2]);

const KEYS: [Key; 4] = [
    (
        "snapshotFrequency",
        r#""PT13H""#,
        [(r#""PT1H""#, r#""PT1H""#), (r#""P1DT0.5S""#, r#""P1DT0.5S""#)],
        ["7", r#""P1M""#],
    ),
    ("maxLocalCacheSizeInBytes", "2560000", [("300000", "300000"), ("400000.0", "400000")], ["8191", "true"]),
    (
        "eventPriorityLogin",
        r#""High""#,
        [(r#""low""#, r#""Low""#), (r#""OFF""#, r#""Off""#)],
        [r#""Operational""#, "0"],
    ),
    ("aggregationEnabledProcessCreate", "true", [("false", "false"), ("true", "true")], [r#""yes""#, "1"]),
];

/// What the back end writes to a key.
#[derive(Clone, Copy, Debug)]
enum Write {
    Good(usize),
    Bad(usize),
    /// `{"value": null}`
    Empty,
    /// `null`: the key is removed.
    Remove,
}

type Writes = Vec<(usize, Write)>;

#[derive(Clone, Debug)]
enum Step {
    /// Patches in one burst, each notice delivered so many times.
    Patch(Vec<Writes>, u8),
    Replace(Writes),
    /// The notice is lost.
    Lose(Writes),
    /// A notice with the version of the document, or one less, that says something else.
    Stale(Writes, bool),
    /// The connection ends; these are written before the next one.
    Reconnect(Vec<Writes>),
    MakeAnew(Writes),
    /// The process ends, and another begins with what was stored.
    Restart,
    /// The next report is answered so.
    RefuseReport(u16),
}

fn writes() -> impl Strategy<Value = Writes> {
    let write = prop_oneof![
        3 => (0_usize..2).prop_map(Write::Good),
        2 => (0_usize..2).prop_map(Write::Bad),
        1 => Just(Write::Empty),
        1 => Just(Write::Remove),
    ];
    prop::collection::vec((0..KEYS.len(), write), 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::collection::vec(writes(), 1..5), 1_u8..3).prop_map(|(w, n)| Step::Patch(w, n)),
        2 => writes().prop_map(Step::Replace),
        2 => writes().prop_map(Step::Lose),
        1 => (writes(), any::<bool>()).prop_map(|(w, same)| Step::Stale(w, same)),
        2 => prop::collection::vec(writes(), 0..3).prop_map(Step::Reconnect),
        1 => writes().prop_map(Step::MakeAnew),
        1 => Just(Step::Restart),
        1 => prop_oneof![Just(429), Just(500), Just(503)].prop_map(Step::RefuseReport),
    ]
}

fn patch(writes: &Writes) -> Value {
    let value = |text: &str| json!({ "value": serde_json::from_str::<Value>(text).unwrap() });
    let member = |(key, write): &(usize, Write)| {
        let (name, _, good, bad) = KEYS[*key];
        let written = match write {
            Write::Good(n) => value(good[*n].0),
            Write::Bad(n) => value(bad[*n]),
            Write::Empty => json!({ "value": null }),
            Write::Remove => Value::Null,
        };
        (name.to_owned(), written)
    };
    json!({ OBJECT: writes.iter().map(member).collect::<Map<_, _>>() })
}

/// RFC 7396, once more and by itself.
fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut out = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            out.remove(key);
        } else {
            let before = out.get(key).cloned().unwrap_or(Value::Null);
            out.insert(key.clone(), merged(&before, value));
        }
    }
    Value::Object(out)
}

/// What the agent must have in force, key by key, and which keys it must have refused.
#[derive(Debug)]
struct Model {
    in_force: BTreeMap<&'static str, Value>,
    refused: BTreeSet<String>,
    version: u64,
}

impl Model {
    fn see(&mut self, desired: &Value, version: u64) {
        self.version = version;
        self.refused.clear();
        for (name, default, good, bad) in KEYS {
            let given = desired[OBJECT][name]["value"].to_string();
            if let Some((_, taken)) = good.iter().find(|(text, _)| *text == given) {
                self.in_force.insert(name, serde_json::from_str(taken).unwrap());
            } else if bad.contains(&given.as_str()) {
                self.refused.insert(name.to_owned());
            } else {
                self.in_force.insert(name, serde_json::from_str(default).unwrap());
            }
        }
    }
}

struct Run {
    now: Mono,
    dir: tempfile::TempDir,
    session: Session,
    configuration: Configuration,
    ready: bool,
    desired: Value,
    version: u64,
    hub_reported: Value,
    refuse: Option<u16>,
    model: Model,
}

impl Run {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Mono::from_boot(Duration::from_secs(1));
        let mut run = Self {
            now,
            session: Session::new(now, Duration::from_secs(1_000_000_000), 7),
            configuration: Configuration::load(dir.path(), OBJECT.to_owned()),
            dir,
            ready: false,
            desired: json!({}),
            version: 1,
            hub_reported: json!({"another": {"kept": 1}}),
            refuse: None,
            model: Model { in_force: BTreeMap::new(), refused: BTreeSet::new(), version: 0 },
        };
        run.sign_in();
        run
    }

    fn give(&mut self, input: Input<'_>) {
        for action in self.session.handle(self.now, input) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial => {
                self.give(Input::Dialled);
                self.give(Input::Connected);
            }
            Action::Subscribe => self.give(Input::Subscribed),
            Action::GetTwin { rid } => {
                let mut desired = self.desired.clone();
                desired["$version"] = self.version.into();
                let text = json!({"desired": desired, "reported": self.hub_reported}).to_string();
                self.answer(rid, 200, &text);
            }
            Action::Report { rid, patch } => {
                if let Some(status) = self.refuse.take() {
                    self.answer(rid, status, "{}");
                } else {
                    self.hub_reported = merged(&self.hub_reported, &serde_json::from_str(&patch).unwrap());
                    self.answer(rid, 204, "");
                }
            }
            Action::Event(FromHub::Desired { section, version }) => {
                let update = self.configuration.desired(&section, version);
                last_good::save(self.dir.path(), &update.keep).unwrap();
                self.report();
            }
            Action::Event(FromHub::State(state)) => {
                self.ready = state == LinkState::Ready;
                if self.ready {
                    self.report();
                }
            }
            Action::Event(_) | Action::Close | Action::Disconnect | Action::Publish(_) | Action::Answer(_) => {}
        }
    }

    fn answer(&mut self, rid: u32, status: u16, text: &str) {
        self.give(Input::Publish { topic: Incoming::TwinAnswer { status, rid }, payload: text.as_bytes() });
    }

    fn report(&mut self) {
        let refused = self.configuration.problems.iter().map(|p| p.key.clone()).collect::<Vec<_>>();
        let own = json!({"desiredVersion": self.configuration.version, "refused": refused});
        let ours = [(OBJECT.to_owned(), reported(&self.configuration.config).into()), ("twinward".to_owned(), own)];
        self.give(Input::Order(ToHub::Report(Map::from_iter(ours))));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(at) = self.session.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Tick);
        }
        self.now = end;
        // The hub answers a ping now and then.
        self.give(Input::Heard);
    }

    /// Waits for the link, then until nothing is left to do.
    fn sign_in(&mut self) {
        for _ in 0..1000 {
            if self.ready {
                break;
            }
            self.pass(Duration::from_secs(10));
        }
        assert!(self.ready, "the link never came");
        self.settle();
    }

    fn settle(&mut self) {
        self.pass(Duration::from_secs(100));
        self.model.see(&self.desired, self.version);
    }

    fn write(&mut self, patch: &Value) -> Value {
        self.desired = merged(&self.desired, patch);
        self.version += 1;
        let mut notice = patch.clone();
        notice["$version"] = self.version.into();
        notice
    }

    fn notice(&mut self, notice: &Value) {
        let text = notice.to_string();
        self.give(Input::Publish { topic: Incoming::Desired { version: None }, payload: text.as_bytes() });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Patch(burst, times) => {
                for (n, writes) in burst.iter().enumerate() {
                    let notice = self.write(&patch(writes));
                    for _ in 0..times {
                        self.notice(&notice);
                    }
                    if n == 0 {
                        // The first of a burst is in force before the others are known; if one was missed before,
                        // by asking for the whole.
                        self.model.see(&self.desired, self.version);
                        self.check();
                    }
                }
                self.settle();
            }
            Step::Replace(writes) => {
                let section = merged(&json!({}), &patch(&writes));
                self.version += 1;
                self.desired = section.clone();
                let mut notice = section;
                notice["$version"] = self.version.into();
                self.notice(&notice);
                self.settle();
            }
            Step::Lose(writes) => {
                self.write(&patch(&writes));
                self.pass(Duration::from_secs(100));
            }
            Step::Stale(writes, same) => {
                let known = self.model.version;
                let mut notice = patch(&writes);
                notice["$version"] = known.saturating_sub(u64::from(!same)).into();
                let changes = merged(&self.configuration_known(), &patch(&writes)) != self.configuration_known();
                self.notice(&notice);
                self.pass(Duration::from_secs(100));
                if changes {
                    // It was asked about, which also tells what was missed.
                    self.model.see(&self.desired, self.version);
                }
            }
            Step::Reconnect(written) => {
                self.ready = false;
                self.give(Input::Lost(LinkError::Protocol("cut".to_owned())));
                for writes in &written {
                    self.write(&patch(writes));
                }
                self.sign_in();
            }
            Step::MakeAnew(writes) => {
                self.version = 1;
                self.desired = merged(&json!({}), &patch(&writes));
                self.hub_reported = json!({"another": {"kept": 1}});
                self.ready = false;
                self.give(Input::Lost(LinkError::Protocol("deleted".to_owned())));
                self.sign_in();
            }
            Step::Restart => {
                self.ready = false;
                self.session = Session::new(self.now, Duration::from_secs(1_000_000_000), self.version);
                self.configuration = Configuration::load(self.dir.path(), OBJECT.to_owned());
                for (name, value) in &self.model.in_force {
                    assert_eq!(&reported(&self.configuration.config)[*name]["value"], value, "{name} after a restart");
                }
                self.sign_in();
            }
            Step::RefuseReport(status) => self.refuse = Some(status),
        }
    }

    /// The desired section as the agent last took it, from where it was stored.
    fn configuration_known(&self) -> Value {
        let last = last_good::load(self.dir.path()).unwrap().unwrap();
        Value::Object(last.desired)
    }

    fn check(&self) {
        let effective = Value::Object(reported(&self.configuration.config));
        for (name, value) in &self.model.in_force {
            assert_eq!(&effective[*name]["value"], value, "{name} in force");
        }
        let refused: BTreeSet<String> =
            self.configuration.problems.iter().filter(|p| p.is_refusal()).map(|p| p.key.clone()).collect();
        assert_eq!(refused, self.model.refused);
        assert_eq!(self.configuration.version, Some(self.model.version));
    }

    fn check_reported(&self) {
        assert_eq!(self.hub_reported[OBJECT], Value::Object(reported(&self.configuration.config)));
        assert_eq!(self.hub_reported["twinward"]["desiredVersion"], self.model.version);
        assert_eq!(self.hub_reported["another"], json!({"kept": 1}), "what is not ours is not touched");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn effective_reported_and_model_agree_after_each_step(steps in prop::collection::vec(step(), 1..16)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            run.check();
            run.check_reported();
        }
    }
}
