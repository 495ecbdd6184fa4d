//! Calls against a core that works and snapshots that the test takes, or does not.

use tempfile::TempDir;

use super::*;
use crate::agent::{Agent, AgentOptions};
use crate::hub::{connstr::ConnectionString, tls};
use crate::model::secret::Secret;
use crate::settings::load;
use crate::sys::clock::ManualClock;
use crate::sys::files::write_atomic;
use crate::sys::host::Host;
use EventName::{ListeningPorts, MessageStatistics, SystemInformation};

const CONNECTION_STRING: &str =
    "HostName=h.azure-devices.net;DeviceId=d;ModuleId=azureiotsecurity;SharedAccessKey=TmV2ZXJTaG93VGhpc0tleSE=";

/// The task, and what is at its other ends.
struct Board {
    calls: mpsc::Sender<MethodCall>,
    answers: mpsc::Receiver<ToHub>,
    orders: mpsc::Receiver<CollectNow>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    _agent: Agent,
    _directory: TempDir,
}

impl Board {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("twinward.toml");
        let state = Value::String(directory.path().join("state").display().to_string());
        write_atomic(&file, format!("[storage]\ndirectory = {state}\n").as_bytes(), 0o600).unwrap();
        let clock = Arc::new(ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap()));
        let (agent, handle) = Agent::build(AgentOptions {
            settings: load::load(&file, std::iter::empty()).unwrap(),
            identity: ConnectionString::parse(&Secret::new(CONNECTION_STRING.into())).unwrap(),
            tls: tls::client_config(None).unwrap(),
            host: Host::rooted(directory.path()),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            diagnostics: None,
        })
        .unwrap();
        let (calls, called) = mpsc::channel(8);
        let (to_hub, answers) = mpsc::channel(8);
        let (collect, orders) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let core = agent.core.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(run(MethodParts { calls: called, to_hub, handle, core, collect, clock }, stop.clone()));
        Self { calls, answers, orders, stop, tasks, _agent: agent, _directory: directory }
    }

    async fn call(&self, rid: &str, name: &str, payload: &Value) {
        let call =
            MethodCall { connection: 7, name: name.into(), rid: rid.into(), payload: payload.to_string().into_bytes() };
        self.calls.send(call).await.unwrap();
    }

    /// The next answer: to which call, its status and its body.
    async fn answer(&mut self) -> (String, u16, Value) {
        let Some(ToHub::Answer(MethodAnswer { connection, rid, status, body })) = self.answers.recv().await else {
            panic!()
        };
        assert_eq!(connection, 7, "the one that the call came by");
        (rid, status, serde_json::from_str(&body).unwrap())
    }
}

#[tokio::test]
async fn others_are_answered_while_two_wait_for_snapshots_and_a_third_is_told_to_try_again() {
    let mut board = Board::new();
    board.call("first", "collectNow", &Value::Null).await;
    let first = board.orders.recv().await.unwrap();
    assert_eq!(first.names, PERIODIC, "none named is all");
    board.call("second", "collectNow", &json!({"events": ["SystemInformation", "ListeningPorts"]})).await;
    board.call("ping", "ping", &Value::Null).await;
    let (rid, status, body) = board.answer().await;
    assert_eq!((rid.as_str(), status, &body["version"]), ("ping", 200, &json!(crate::model::VERSION)));
    board.call("status", "getStatus", &Value::Null).await;
    let (rid, status, _) = board.answer().await;
    assert_eq!((rid.as_str(), status), ("status", 200));
    board.call("third", "collectNow", &Value::Null).await;
    let (rid, status, body) = board.answer().await;
    assert_eq!((rid.as_str(), status, body), ("third", 503, json!({"error": "snapshots are being taken; try again"})));

    let second = board.orders.recv().await.unwrap();
    second.told.try_send((ListeningPorts, Outcome::Off)).unwrap();
    second.told.try_send((SystemInformation, Outcome::Collected)).unwrap();
    drop(second);
    let (rid, status, body) = board.answer().await;
    let all = json!({"collected": ["SystemInformation"], "off": ["ListeningPorts"], "unavailable": []});
    assert_eq!((rid.as_str(), status, body), ("second", 200, all));
    // The snapshots ended before the first was served: the agent stops.
    drop(first);
    let (rid, status, body) = board.answer().await;
    assert_eq!((rid.as_str(), status, body), ("first", 503, json!({"error": "the agent is about to stop"})));
    board.stop.cancel();
    board.tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_who_waited_long_enough_is_told_what_is_done_and_what_is_started() {
    let (told, news) = mpsc::channel(3);
    let waiting = Waiting { names: vec![MessageStatistics, SystemInformation, ListeningPorts], told: news };
    told.try_send((SystemInformation, Outcome::Unavailable)).unwrap();
    told.try_send((ListeningPorts, Outcome::Collected)).unwrap();
    let answer = waiting.answer(Duration::from_millis(1)).await;
    let body = json!({"collected": ["ListeningPorts"], "off": [], "unavailable": ["SystemInformation"], "started": ["MessageStatistics"]});
    assert_eq!(answer, (202, body));
}
