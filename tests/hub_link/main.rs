//! The link against a small scripted MQTT server over real TLS on loopback. The script, not a broker, decides each
//! packet, so each fault comes exactly where the test wants it.
#![cfg(feature = "lab")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]

mod methods;
mod scripted;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::CertificateParams;
use serde_json::{Map, Value, json};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use twinward::hub::{ConnectionString, FromHub, LinkOptions, LinkState, ToHub, run, tls};
use twinward::model::ids::MessageId;
use twinward::model::loss::Queue;
use twinward::model::message::Message;
use twinward::model::secret::Secret;
use twinward::settings::MessageMode;
use twinward::sys::clock::SystemClock;

use scripted::{CONNACK, HUB, SUBACK, Server, soon, text};

const HOUR: Duration = Duration::from_secs(3600);

/// The link under test, in its own task.
struct Link {
    orders: mpsc::Sender<ToHub>,
    news: mpsc::Receiver<FromHub>,
    task: JoinSet<()>,
}

impl Link {
    /// Trusts the server, renews its token after an hour.
    fn to(server: &Server) -> Self {
        Self::start(server.port(), Some(server.ca.path()), HOUR)
    }

    fn start(port: u16, ca: Option<&Path>, sas_life: Duration) -> Self {
        Self::with(port, ca, sas_life, false)
    }

    fn with(port: u16, ca: Option<&Path>, sas_life: Duration, direct_methods: bool) -> Self {
        let identity = format!("HostName={HUB};DeviceId=d-1;ModuleId=azureiotsecurity;SharedAccessKey=c2VjcmV0");
        let options = LinkOptions {
            identity: ConnectionString::parse(&Secret::new(identity.into_bytes())).unwrap(),
            tls: tls::client_config(ca).unwrap(),
            dial_host: Some("127.0.0.1".into()),
            port,
            messages: MessageMode::Open,
            direct_methods,
            sas_life,
            clock: Arc::new(SystemClock::new("2020-01-01T00:00:00Z".parse().unwrap())),
            product: "twinward/test".into(),
        };
        let (orders, commands) = mpsc::channel(16);
        let (events, news) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(run(options, commands, events));
        Self { orders, news, task }
    }

    async fn order(&self, order: ToHub) {
        soon(self.orders.send(order)).await.unwrap();
    }

    async fn next(&mut self) -> FromHub {
        soon(self.news.recv()).await.unwrap()
    }

    async fn state(&mut self) -> LinkState {
        loop {
            if let FromHub::State(state) = self.next().await {
                return state;
            }
        }
    }

    async fn down(&mut self) -> (String, bool) {
        loop {
            if let LinkState::Down { error, permanent_hint, .. } = self.state().await {
                return (error, permanent_hint);
            }
        }
    }

    async fn ready(&mut self) {
        while self.state().await != LinkState::Ready {}
    }

    async fn ended(mut self) {
        soon(self.task.join_next()).await.unwrap().unwrap();
    }
}

fn twin() -> Value {
    json!({"desired": {"a": 1, "$version": 1}, "reported": {"foreign": 1, "$version": 1}})
}

fn message(body: &str) -> Message {
    Message { id: MessageId::random(), queue: Queue::High, body: body.into(), hub_resource_id: String::new() }
}

fn map(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("not an object: {value}") };
    map
}

#[tokio::test]
async fn from_sign_in_to_puback_to_loss_and_back() {
    let server = Server::new(|_| {}).await;
    let mut link = Link::to(&server);
    let mut peer = server.accept().await;
    assert_eq!(peer.0.get_ref().1.server_name(), Some(HUB), "SNI is the hub's name, not the dialled one");

    let (kind, body) = peer.packet().await;
    assert_eq!((kind, &body[..6]), (0x10, b"\0\x04MQTT".as_slice()));
    assert_eq!(body[6..10], [4, 0b1100_0010, 0, 240], "3.1.1, user and password, clean session, 240 s");
    let (client_id, rest) = text(&body[10..]);
    let (user, rest) = text(rest);
    let (password, rest) = text(rest);
    assert_eq!(client_id, "d-1/azureiotsecurity");
    assert_eq!(user, "hub.example.net/d-1/azureiotsecurity/?api-version=2021-04-12&DeviceClientType=twinward%2Ftest");
    let resource = "SharedAccessSignature sr=hub.example.net%2Fdevices%2Fd-1%2Fmodules%2Fazureiotsecurity&sig=";
    assert!(password.starts_with(resource) && rest.is_empty());

    peer.send(&CONNACK).await;
    let (kind, body) = peer.packet().await;
    let (first, rest) = text(&body[2..]);
    let (second, rest) = text(&rest[1..]);
    assert_eq!((kind, rest), (0x82, [0].as_slice()));
    assert_eq!([first, second], ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#"]);
    peer.send(&SUBACK).await;
    let (topic, rid) = peer.twin_request().await;
    assert_eq!(topic, "$iothub/twin/GET/");
    peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &twin().to_string()).await;

    assert_eq!(link.next().await, FromHub::State(LinkState::Connecting));
    assert_eq!(link.next().await, FromHub::Desired { section: map(json!({"a": 1})), version: 1 });
    assert_eq!(link.next().await, FromHub::State(LinkState::Ready));

    link.order(ToHub::Report(map(json!({"twinward": {"version": "1"}})))).await;
    let (topic, rid, patch) = peer.twin_request_with_body().await;
    assert_eq!(
        (topic.as_str(), patch.as_str()),
        ("$iothub/twin/PATCH/properties/reported/", r#"{"twinward":{"version":"1"}}"#)
    );
    peer.publish(&format!("$iothub/twin/res/204/?$rid={rid}&$version=2"), "").await;
    assert_eq!(link.next().await, FromHub::Reported { ok: true, status: 204, detail: String::new() });

    peer.publish("$iothub/twin/PATCH/properties/desired/?$version=2", r#"{"b":2,"$version":2}"#).await;
    let (topic, rid) = peer.twin_request().await;
    assert_eq!(topic, "$iothub/twin/GET/");
    let whole = json!({"desired": {"b": 2, "$version": 2}, "reported": {"foreign": 1, "twinward": {"version": "1"}}});
    peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &whole.to_string()).await;
    assert_eq!(link.next().await, FromHub::Desired { section: map(json!({"b": 2})), version: 2 });

    // PUBACKs out of order belong to their own messages.
    let (a, b, c) = (message("{\"n\":1}"), message("{\"n\":2}"), message("{\"n\":3}"));
    let mut packets = Vec::new();
    for message in [&a, &b, &c] {
        link.order(ToHub::Send(message.clone())).await;
        let (topic, packet, body) = peer.message().await;
        assert!(topic.starts_with("devices/d-1/modules/azureiotsecurity/messages/events/%24.ct=application%2Fjson"));
        assert!(topic.contains(&format!("%24.mid={}", message.id)));
        assert_eq!(body, message.body);
        packets.push(packet);
    }
    peer.puback(packets[1]).await;
    assert_eq!(link.next().await, FromHub::Delivered(b.id));
    peer.puback(packets[0]).await;
    assert_eq!(link.next().await, FromHub::Delivered(a.id));

    // The third is lost with the connection, and goes out again under the same id on the next one.
    drop(peer);
    let FromHub::State(LinkState::Down { error, permanent_hint, .. }) = link.next().await else { panic!("not down") };
    assert!(error.contains("closed by the other side") && !permanent_hint, "{error}");
    let mut peer = server.sign_in(&json!({"desired": {"$version": 3}, "reported": {}})).await;
    link.ready().await;
    let (topic, _, patch) = peer.twin_request_with_body().await;
    assert!(topic.ends_with("reported/") && patch.contains("twinward"), "reported anew: the hub had forgotten");
    link.order(ToHub::Send(c.clone())).await;
    let (topic, packet, _) = peer.message().await;
    assert!(topic.contains(&c.id.to_string()));

    // Stop waits for the PUBACK.
    link.order(ToHub::Stop).await;
    peer.puback(packet).await;
    assert_eq!(link.next().await, FromHub::Delivered(c.id));
    assert_eq!(link.state().await, LinkState::Stopped);
    assert_eq!(peer.rest().await, [0xe0, 0], "DISCONNECT");
    link.ended().await;
}

#[tokio::test]
async fn a_puback_just_before_the_end_counts() {
    let server = Server::new(|_| {}).await;
    let mut link = Link::to(&server);
    let mut peer = server.sign_in(&twin()).await;
    link.ready().await;
    let a = message("{}");
    link.order(ToHub::Send(a.clone())).await;
    let (_, packet, _) = peer.message().await;
    peer.puback(packet).await;
    drop(peer);
    assert_eq!(link.next().await, FromHub::Delivered(a.id));
    assert!(link.down().await.0.contains("closed"));
}

#[tokio::test]
async fn a_refused_sign_in_says_what_to_do() {
    let server = Server::new(|_| {}).await;
    for (code, words, hands) in [(5, "wrong key", true), (3, "throttled", false), (9, "return code: 9", false)] {
        let mut link = Link::to(&server);
        let mut peer = server.accept().await;
        peer.packet().await;
        peer.send(&[0x20, 2, 0, code]).await;
        let (error, permanent) = link.down().await;
        assert!(error.contains(words), "{error}");
        assert_eq!(permanent, hands);
        assert!(!error.contains("SharedAccessSignature") && !error.contains('\n'));
        link.order(ToHub::Stop).await;
        assert_eq!(link.state().await, LinkState::Stopped);
        link.ended().await;
    }
}

#[tokio::test]
async fn certificates_are_checked() {
    let server = Server::new(|_| {}).await;
    let mut stranger = Link::start(server.port(), None, HOUR);
    let other_name = Server::new(|p| *p = CertificateParams::new(vec!["other.example.net".to_owned()]).unwrap()).await;
    let expired = Server::new(|p| {
        p.not_before = rcgen::date_time_ymd(2020, 1, 1);
        p.not_after = rcgen::date_time_ymd(2020, 2, 1);
    })
    .await;
    let early = Server::new(|p| p.not_before = rcgen::date_time_ymd(2999, 1, 1)).await;
    let mut links = [Link::to(&other_name), Link::to(&expired), Link::to(&early)];
    let texts = ["is for other.example.net, not for hub.example.net", "has expired", "not valid yet"];
    let refuse = async |server: &Server| {
        let (tcp, _) = soon(server.listener.accept()).await.unwrap();
        assert!(soon(server.acceptor.accept(tcp)).await.is_err(), "the client must not go on");
    };
    refuse(&server).await;
    assert!(stranger.down().await.0.contains("no trusted root"));
    for ((server, link), text) in [&other_name, &expired, &early].into_iter().zip(&mut links).zip(texts) {
        refuse(server).await;
        let error = link.down().await.0;
        assert!(error.contains(text), "{error}");
    }
}

#[tokio::test]
async fn an_unreachable_hub_is_a_tcp_error() {
    // Bound and not listening: nobody else can take the port, and it refuses.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut link = Link::start(socket.local_addr().unwrap().port(), None, HOUR);
    let error = link.down().await.0;
    assert!(error.contains("cannot reach 127.0.0.1 port"), "{error}");
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_nothing_else() {
    let server = Server::new(|_| {}).await;
    let connack_then = |bytes: &[u8]| [&CONNACK, bytes].concat();
    let mut too_large = vec![0x30];
    too_large.extend([0xff, 0xff, 0xff, 0x7f]);
    for bytes in [
        [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), &[b' '; 100]].concat(),
        connack_then(&[0xff; 64]),
        connack_then(&CONNACK),
        connack_then(&[0x40, 2, 0, 9]),
        connack_then(&too_large),
        connack_then(&[0x90, 4, 0, 1, 0x80, 0x80]),
        connack_then(&[0x30, 4, 0, 9, b'a', b'b']),
    ] {
        let mut link = Link::to(&server);
        let mut peer = server.accept().await;
        peer.packet().await;
        peer.send(&bytes).await;
        let error = link.down().await.0;
        assert!(error.contains("MQTT protocol"), "{bytes:?}: {error}");
        drop(link.orders);
        soon(link.task.join_next()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn foreign_topics_and_a_broken_twin_do_not_end_the_connection() {
    let server = Server::new(|_| {}).await;
    let mut link = Link::to(&server);
    let mut peer = server.accept().await;
    peer.packet().await;
    peer.send(&CONNACK).await;
    peer.packet().await;
    peer.send(&SUBACK).await;
    let (_, rid) = peer.twin_request().await;
    peer.publish("foreign/topic", "x").await;
    peer.publish("$iothub/twin/res/200/?$rid=999", "{}").await;
    peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &"[".repeat(100_000)).await;
    assert_eq!(link.next().await, FromHub::State(LinkState::Connecting));
    let FromHub::TwinUnreadable(problem) = link.next().await else { panic!("no problem") };
    assert!(problem.contains("deeper"), "{problem}");
    assert_eq!(link.next().await, FromHub::State(LinkState::Ready));
    let (topic, rid) = peer.twin_request().await;
    assert_eq!(topic, "$iothub/twin/GET/", "asked again after a while");
    peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &twin().to_string()).await;
    assert_eq!(link.next().await, FromHub::Desired { section: map(json!({"a": 1})), version: 1 });
}

#[tokio::test]
async fn a_twin_that_is_far_too_large_is_refused_and_the_link_stays() {
    let server = Server::new(|_| {}).await;
    let mut link = Link::to(&server);
    let mut peer = server.sign_in(&twin()).await;
    link.ready().await;
    for n in 0..20 {
        let large = format!("{{\"large\":\"{}\",\"$version\":{}}}", "x".repeat(1_000_000), n + 2);
        peer.publish("$iothub/twin/PATCH/properties/desired/", &large).await;
    }
    let (_, rid) = peer.twin_request().await;
    let large = format!("{{\"desired\":{{\"large\":\"{}\",\"$version\":21}}}}", "x".repeat(1_000_000));
    peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &large).await;
    let FromHub::TwinUnreadable(problem) = link.next().await else { panic!("no problem") };
    assert!(problem.contains("more than"), "{problem}");
    link.order(ToHub::Send(message("{}"))).await;
    let (_, packet, _) = peer.message().await;
    peer.puback(packet).await;
    assert!(matches!(link.next().await, FromHub::Delivered(_)));
}

#[tokio::test]
async fn a_message_that_is_too_large_is_named_and_the_link_stays() {
    let server = Server::new(|_| {}).await;
    let mut link = Link::to(&server);
    let mut peer = server.sign_in(&twin()).await;
    link.ready().await;
    let (large, fits) = (message(&"x".repeat(262_144)), message(&"y".repeat(261_000)));
    link.order(ToHub::Send(large.clone())).await;
    let FromHub::Undeliverable { id, why } = link.next().await else { panic!("it was sent") };
    assert!(id == large.id && why.contains("the hub takes 262144"), "{why}");
    link.order(ToHub::Send(fits.clone())).await;
    let (_, packet, body) = peer.message().await;
    assert_eq!(body.len(), 261_000);
    peer.puback(packet).await;
    assert_eq!(link.next().await, FromHub::Delivered(fits.id));
}

#[tokio::test]
async fn the_token_is_renewed_by_a_new_connection_after_the_old_one_ended() {
    let server = Server::new(|_| {}).await;
    let mut link = Link::start(server.port(), Some(server.ca.path()), Duration::from_secs(5));
    let mut peer = server.sign_in(&twin()).await;
    link.ready().await;
    assert_eq!(peer.rest().await, [0xe0, 0], "DISCONNECT");
    assert!(link.down().await.0.contains("new token"));
    server.sign_in(&twin()).await;
    link.ready().await;
}

#[tokio::test]
async fn an_owner_that_listens_to_nothing_holds_nothing_up() {
    let server = Server::new(|_| {}).await;
    let link = Link::to(&server);
    let mut peer = server.sign_in(&twin()).await;
    let Link { orders, news, mut task } = link;
    // The news channel holds one; Connecting, Desired and Ready are more. Stop must come through nevertheless.
    soon(orders.send(ToHub::Stop)).await.unwrap();
    assert_eq!(peer.rest().await.last_chunk(), Some(&[0xe0, 0]));
    soon(task.join_next()).await.unwrap().unwrap();
    drop(news);
}
