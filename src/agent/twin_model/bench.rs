//! A hub that answers when the test wants it, and the agent's side of the twin on a virtual clock: session,
//! configuration and report as `run.rs` joins them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Model, Writes, merged, patch};
use crate::agent::configuration::Configuration;
use crate::agent::report::{self, Reporter};
use crate::agent::status::{CoreStatus, LinkStatus, QueueStatus, Status, TwinStatus};
use crate::hub::error::LinkError;
use crate::hub::session::{Action, Input, Session};
use crate::hub::topics::Incoming;
use crate::hub::traffic::{FromHub, LinkState, ToHub};
use crate::model::loss::Balance;
use crate::model::time::Mono;
use crate::settings::last_good;
use crate::settings::reported::reported;
use crate::settings::twin_keys::OBJECT;

/// Longer than any token lives in these tests.
const NO_RENEWAL: Duration = Duration::from_secs(1_000_000_000);

/// What the hub does with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Says {
    /// It does what is asked, and says so.
    Yes,
    /// This status, and nothing is done.
    No(u16),
    /// It does it, and says this status.
    YesBut(u16),
    /// It does it, and the answer is lost.
    Nothing,
    /// What it says is not JSON.
    Rubbish,
}

/// Something of the hub under way to the device.
struct Letter {
    due: Mono,
    topic: Incoming,
    text: String,
}

pub(super) struct Bench {
    pub(super) now: Mono,
    dir: tempfile::TempDir,
    session: Session,
    pub(super) configuration: Configuration,
    reporter: Reporter,
    ready: bool,
    pub(super) model: Model,
    /// The hub's side: desired with its version, as it was with each version, and reported.
    pub(super) desired: Value,
    pub(super) version: u64,
    history: BTreeMap<u64, Value>,
    pub(super) hub_reported: Value,
    letters: Vec<Letter>,
    /// How long the next letters take, in ms; the last one goes for all that follow.
    pub(super) delays: VecDeque<u64>,
    /// How long answers to GETs take instead.
    pub(super) get_delay: Option<u64>,
    pub(super) to_gets: VecDeque<Says>,
    pub(super) to_reports: VecDeque<Says>,
    /// A notice was lost, or a report refused: what is missing shows at the next sign-in.
    pub(super) blind: bool,
    /// Every section that was announced must be one that the hub had, whole.
    pub(super) exact: bool,
    pub(super) gets: Vec<Mono>,
    /// When each version was first in force, and first reported.
    pub(super) in_force_at: BTreeMap<u64, Mono>,
    pub(super) reported_at: BTreeMap<u64, Mono>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let now = Mono::from_boot(Duration::from_secs(1));
        let mut bench = Self {
            now,
            session: Session::new(now, NO_RENEWAL, 7),
            configuration: Configuration::load(dir.path(), OBJECT.to_owned()),
            dir,
            reporter: Reporter::default(),
            ready: false,
            model: Model::default(),
            desired: json!({}),
            version: 1,
            history: BTreeMap::from([(1, json!({}))]),
            hub_reported: json!({"another": {"kept": 1}}),
            letters: Vec::new(),
            delays: VecDeque::from([0]),
            get_delay: None,
            to_gets: VecDeque::new(),
            to_reports: VecDeque::new(),
            blind: false,
            exact: false,
            gets: Vec::new(),
            in_force_at: BTreeMap::new(),
            reported_at: BTreeMap::new(),
        };
        bench.settle();
        bench
    }

    // ---- the device ----

    fn give(&mut self, input: Input<'_>) {
        for action in self.session.handle(self.now, input) {
            self.act(action);
        }
        if self.ready && self.reporter.due(self.now) {
            let section = report::objects(&self.configuration, &self.status());
            if let Some(section) = self.reporter.offer(section, self.now) {
                self.give(Input::Order(ToHub::Report(section)));
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial => {
                self.give(Input::Dialled);
                self.give(Input::Connected);
            }
            Action::Subscribe => self.give(Input::Subscribed),
            Action::GetTwin { rid } => self.asked(rid),
            Action::Report { rid, patch } => self.told(rid, &patch),
            Action::Event(FromHub::Desired { section, version }) => self.announced(&section, version),
            Action::Event(FromHub::TwinUnreadable(problem)) => {
                if !self.configuration.unreadable(problem).is_empty() {
                    self.reporter.urge();
                }
            }
            Action::Event(FromHub::State(state)) => {
                self.ready = state == LinkState::Ready;
                if self.ready {
                    self.reporter.urge();
                }
            }
            Action::Event(_) | Action::Close | Action::Disconnect | Action::Publish(_) | Action::Answer(_) => {}
        }
    }

    fn announced(&mut self, section: &Map<String, Value>, version: u64) {
        let taken = Value::Object(section.clone());
        let truth = &self.history[&version];
        // Without the whole, what a replacement removed is still there; nothing is ever missing or otherwise.
        assert!(merged(&taken, truth) == taken, "version {version}: {taken:.900} lacks some of {truth:.900}");
        assert!(!self.exact || &taken == truth, "version {version}: {taken:.900} is not {truth:.900}");
        let update = self.configuration.desired(section, version);
        last_good::save(self.dir.path(), &update.keep).unwrap();
        self.model.see(&taken);
        self.check();
        self.in_force_at.entry(version).or_insert(self.now);
        self.reporter.urge();
    }

    fn status(&self) -> Status {
        let queue = QueueStatus::default();
        Status {
            version: String::new(),
            agent_id: String::new(),
            pid: 1,
            started_utc: String::new(),
            uptime_seconds: 0,
            link: LinkStatus {
                state: "ready",
                since_utc: String::new(),
                hub: String::new(),
                identity: String::new(),
                error: String::new(),
            },
            twin: TwinStatus {
                source: self.configuration.source.as_str(),
                desired_version: self.configuration.version,
                problems: self.configuration.problems.clone(),
            },
            collectors: Vec::new(),
            core: CoreStatus {
                balance: Balance::default(),
                high: queue,
                low: queue,
                in_flight: 0,
                gaps: Vec::new(),
                storage_trouble: None,
                unstored: 0,
            },
            origins: BTreeMap::new(),
        }
    }

    // ---- the hub ----

    fn asked(&mut self, rid: u32) {
        self.gets.push(self.now);
        let delays = self.get_delay.map(|delay| std::mem::replace(&mut self.delays, VecDeque::from([delay])));
        let mut desired = self.desired.clone();
        desired["$version"] = self.version.into();
        let whole = json!({"desired": desired, "reported": self.hub_reported}).to_string();
        match self.to_gets.pop_front().unwrap_or(Says::Yes) {
            Says::Yes | Says::YesBut(_) => self.answer(rid, 200, whole),
            Says::No(status) => self.answer(rid, status, "{}".to_owned()),
            Says::Rubbish => self.answer(rid, 200, whole[..whole.len() / 2].to_owned()),
            Says::Nothing => {}
        }
        self.delays = delays.unwrap_or_else(|| std::mem::take(&mut self.delays));
    }

    fn told(&mut self, rid: u32, patch: &str) {
        let says = self.to_reports.pop_front().unwrap_or(Says::Yes);
        if !matches!(says, Says::No(_)) {
            self.hub_reported = merged(&self.hub_reported, &serde_json::from_str(patch).unwrap());
            if let Some(version) = self.hub_reported["twinward"]["desiredVersion"].as_u64() {
                self.reported_at.entry(version).or_insert(self.now);
            }
        }
        match says {
            Says::Yes | Says::Rubbish => self.answer(rid, 204, String::new()),
            Says::No(status) | Says::YesBut(status) => {
                self.blind |= matches!(status, 400 | 413);
                self.answer(rid, status, "why".to_owned());
            }
            Says::Nothing => {}
        }
    }

    fn answer(&mut self, rid: u32, status: u16, text: String) {
        self.send(Incoming::TwinAnswer { status, rid }, text);
    }

    fn send(&mut self, topic: Incoming, text: String) {
        let delay = if self.delays.len() > 1 { self.delays.pop_front() } else { self.delays.front().copied() };
        let due = self.now.after(Duration::from_millis(delay.unwrap_or(0)));
        self.letters.push(Letter { due, topic, text });
    }

    /// Sends a notice so many times.
    pub(super) fn notify(&mut self, version: u64, change: &Value, times: u8) {
        let mut notice = change.clone();
        notice["$version"] = version.into();
        for _ in 0..times {
            self.send(Incoming::Desired { version: None }, notice.to_string());
        }
        self.blind |= times == 0;
    }

    fn changed(&mut self, desired: Value) {
        self.desired = desired;
        self.version += 1;
        self.history.insert(self.version, self.desired.clone());
    }

    pub(super) fn patch(&mut self, change: &Value, times: u8) {
        self.changed(merged(&self.desired, change));
        self.notify(self.version, change, times);
    }

    pub(super) fn replace(&mut self, writes: &Writes, times: u8) {
        let section = merged(&json!({}), &patch(writes));
        self.changed(section.clone());
        self.notify(self.version, &section, times);
    }

    pub(super) fn make_anew(&mut self, writes: &Writes) {
        self.cut();
        // An answer about the old identity is lost with it.
        self.letters.clear();
        self.version = 0;
        self.history.clear();
        self.changed(merged(&json!({}), &patch(writes)));
        self.hub_reported = json!({"another": {"kept": 1}});
    }

    // ---- what befalls both ----

    pub(super) fn cut(&mut self) {
        self.ready = false;
        self.letters.clear();
        self.blind = false;
        self.give(Input::Lost(LinkError::Protocol("cut".to_owned())));
    }

    pub(super) fn restart(&mut self) {
        self.ready = false;
        self.letters.clear();
        self.blind = false;
        self.session = Session::new(self.now, NO_RENEWAL, self.version);
        self.reporter = Reporter::default();
        self.configuration = Configuration::load(self.dir.path(), OBJECT.to_owned());
        self.check_values();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let letter = self.letters.iter().enumerate().min_by_key(|(n, letter)| (letter.due, *n));
            let letter = letter.map(|(n, letter)| (letter.due, n));
            let report = self.ready.then(|| self.reporter.next_deadline(self.now));
            let tick = self.session.deadline().into_iter().chain(report).min();
            if let Some((due, n)) = letter.filter(|(due, _)| *due <= end && tick.is_none_or(|tick| *due <= tick)) {
                let Letter { topic, text, .. } = self.letters.remove(n);
                self.now = self.now.max(due);
                self.give(Input::Publish { topic, payload: text.as_bytes() });
            } else if let Some(tick) = tick.filter(|tick| *tick <= end) {
                self.now = self.now.max(tick);
                self.give(Input::Tick);
            } else {
                break;
            }
        }
        self.now = end;
        // The hub answers a ping now and then.
        self.give(Input::Heard);
    }

    /// The hub does all that it should again, until nothing is left to do. What could not be seen is seen after a new
    /// sign-in.
    pub(super) fn settle(&mut self) {
        self.to_gets.clear();
        self.to_reports.clear();
        self.delays = VecDeque::from([20]);
        self.get_delay = None;
        if self.blind {
            self.cut();
        }
        for _ in 0..1000 {
            if self.ready {
                break;
            }
            self.pass(Duration::from_secs(10));
        }
        assert!(self.ready, "the link never came");
        for _ in 0..6 {
            self.pass(Duration::from_secs(60));
        }
        // What cannot be read is asked for again and again: such a question may be under way just now.
        for _ in 0..10 {
            if self.letters.is_empty() {
                break;
            }
            self.pass(Duration::from_millis(100));
        }
        assert!(self.letters.is_empty());
    }

    // ---- judgement ----

    fn check_values(&self) {
        let effective = Value::Object(reported(&self.configuration.config));
        for (name, ..) in KEYS {
            assert_eq!(effective[name].get("value"), self.model.in_force.get(name), "{name} in force");
        }
    }

    /// What is in force, and what is refused, is as the contract says of the section that was announced last.
    pub(super) fn check(&self) {
        self.check_values();
        let refused: BTreeSet<String> = self.refused().collect();
        assert_eq!(refused, self.model.refused);
    }

    fn refused(&self) -> impl Iterator<Item = String> {
        let whole = |key: &String| key != "TwinConfiguration";
        self.configuration.problems.iter().filter(|p| p.is_refusal()).map(|p| p.key.clone()).filter(whole)
    }

    /// Nothing is under way any more: in force is what the hub has, or it is told that it cannot be read; reported is
    /// what is in force.
    pub(super) fn check_settled(&self, readable: bool) {
        self.check();
        let unreadable = self.configuration.problems.iter().any(|p| p.key == "TwinConfiguration");
        assert_eq!(unreadable, !readable);
        if readable {
            assert_eq!(self.configuration.version, Some(self.version));
            let mut model = Model { in_force: self.model.in_force.clone(), ..Model::default() };
            model.see(&self.desired);
            assert_eq!((&model.in_force, &model.refused), (&self.model.in_force, &self.model.refused));
        }
        let mut ours = report::objects(&self.configuration, &self.status());
        ours.insert("another".to_owned(), json!({"kept": 1}));
        let theirs = self.hub_reported.as_object().unwrap();
        let differs = crate::hub::reported::patch(&ours, theirs);
        assert!(differs.is_empty(), "the hub lacks {}", Value::Object(differs));
        assert_eq!(theirs.len(), ours.len());
    }
}
