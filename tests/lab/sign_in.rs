//! Who gets in, and what ends a connection.

use std::time::Duration;

use serde_json::Map;
use tokio::io::AsyncReadExt;
use twinward::lab::{Happening, LabOptions, ModuleId, ServerCertificate, Why};

use super::client::{Client, Got, Login, disconnected, lab, packet, refused, text, until, with};

#[tokio::test]
async fn both_keys_open_and_a_stored_session_is_present() {
    let (lab, mut watcher) = lab().await;
    let secondary = lab.connection_string_of(lab.module(), true).unwrap();
    assert_ne!(secondary, lab.connection_string());
    for (clean, session_present) in [(true, false), (false, false), (false, true), (true, false), (false, false)] {
        let login = Login { clean, ..Login::new(&secondary) };
        let (mut client, answer) = Client::try_sign_in(&lab, &login).await;
        assert_eq!(answer, Got::ConnAck { session_present, code: 0 });
        client.send(&packet(0xe0, &[])).await;
        assert_eq!(client.read().await, Got::End);
        assert_eq!(disconnected(&mut watcher).await, Why::ClientLeft);
    }
    lab.shutdown().await;
}

#[tokio::test]
async fn a_stored_session_keeps_its_filters_unless_it_is_lost() {
    let (lab, _watcher) = lab().await;
    let login = Login { clean: false, ..Login::new(&lab.connection_string()) };
    let _clean = Client::sign_in(&lab).await;
    let (mut client, answer) = Client::try_sign_in(&lab, &login).await;
    assert_eq!(answer, Got::ConnAck { session_present: false, code: 0 }, "a clean session is nobody's heir");
    client.subscribe(super::client::TWIN_ANSWERS).await;
    let get = "$iothub/twin/GET/?$rid=1";
    let (mut client, _) = Client::try_sign_in(&lab, &login).await;
    client.publish_as(0x30, get, 0, b"").await;
    assert!(matches!(client.read().await, Got::Publish { .. }));
    lab.faults(|faults| faults.lose_session = true);
    let (mut client, answer) = Client::try_sign_in(&lab, &login).await;
    assert_eq!(answer, Got::ConnAck { session_present: false, code: 0 });
    client.publish_as(0x30, get, 0, b"").await;
    assert_eq!(client.ping().await, [], "nobody listens, so nothing is answered");
}

#[tokio::test]
async fn each_refusal_has_its_code_and_closes() {
    let (lab, mut watcher) = lab().await;
    let disabled = ModuleId::new("try-device", "disabled");
    let disabled_string = lab.add_identity(disabled.clone(), &Map::new()).unwrap();
    assert!(lab.set_enabled(&disabled, false));
    let good = Login::new(&lab.connection_string());
    let now = jiff::Timestamp::now().as_second();
    let other_key = Login::new(&lab.connection_string().replace("Key=", "Key=AAAA"));
    let unknown = lab.connection_string().replace("ModuleId=azureiotsecurity", "ModuleId=nobody");
    let cases = [
        ("wrong key", other_key, 5),
        ("expired", Login::with_expiry(&lab.connection_string(), now - 301), 5),
        ("unknown module", Login::new(&unknown), 5),
        ("disabled", Login::new(&disabled_string), 3),
        ("no token", Login { password: "hello".into(), ..good.clone() }, 5),
        ("level 5", Login { level: 5, ..good.clone() }, 1),
        ("no client id", Login { client_id: String::new(), ..good.clone() }, 2),
        ("no api-version", Login { user_name: format!("{}/{}/", lab.host_name(), good.client_id), ..good.clone() }, 4),
        ("another module", Login { user_name: good.user_name.replace("azureiot", "x"), ..good.clone() }, 5),
    ];
    for (what, login, code) in cases {
        let (mut client, answer) = Client::try_sign_in(&lab, &login).await;
        assert_eq!(answer, Got::ConnAck { session_present: false, code }, "{what}");
        assert_eq!(client.read().await, Got::End, "{what}");
        assert_eq!(refused(&mut watcher).await.0, Some(code), "{what}");
    }
    lab.shutdown().await;
}

#[tokio::test]
async fn what_is_no_sign_in_is_closed_without_an_answer() {
    let (lab, mut watcher) = lab().await;
    let cases: [(&[u8], &str); 3] = [
        (&[0xc0, 0], "not CONNECT"),
        (&[0x10, 0xff, 0xff, 0xff, 0x7f], "too large"),
        (&packet(0x10, &text("HTTP")), "malformed"),
    ];
    for (bytes, why) in cases {
        let mut client = Client::dial(&lab).await.unwrap();
        client.send(bytes).await;
        assert_eq!(client.read().await, Got::End);
        let (code, reason) = refused(&mut watcher).await;
        assert!(code.is_none() && reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed() {
    let options = LabOptions { sign_in_limit: Duration::from_millis(100), ..LabOptions::default() };
    let (lab, mut watcher) = with(options).await;
    let mut tcp = tokio::net::TcpStream::connect(lab.address()).await.unwrap();
    assert_eq!(tcp.read(&mut [0]).await.unwrap(), 0);
    let (code, reason) = refused(&mut watcher).await;
    assert!(code.is_none() && reason.contains("no sign-in"), "{reason}");
}

#[tokio::test]
async fn a_second_connection_closes_the_first() {
    let (lab, mut watcher) = lab().await;
    let mut first = Client::sign_in(&lab).await;
    let mut second = Client::sign_in(&lab).await;
    assert_eq!(first.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::Replaced);
    assert_eq!(second.ping().await, []);
    assert!(lab.is_connected(lab.module()));
    second.send(&Login::new(&lab.connection_string()).password.into_bytes()).await;
    assert!(matches!(disconnected(&mut watcher).await, Why::Malformed(_)));
}

#[tokio::test]
async fn a_connection_outlives_its_token_by_the_time_the_hub_gives() {
    let options = LabOptions { cut_after_expiry: Duration::from_secs(30), ..LabOptions::default() };
    let (lab, mut watcher) = with(options).await;
    let now = jiff::Timestamp::now().as_second();
    let sign_in =
        async |expires| Client::try_sign_in(&lab, &Login::with_expiry(&lab.connection_string(), expires)).await;
    let (mut client, answer) = sign_in(now - 5).await;
    assert_eq!(answer, Got::ConnAck { session_present: false, code: 0 });
    assert_eq!(client.ping().await, [], "expired, but not for long enough");
    let (mut client, _) = sign_in(now - 60).await;
    assert_eq!(disconnected(&mut watcher).await, Why::Replaced);
    assert_eq!(client.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::TokenExpired);
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_closes_and_the_will_is_published() {
    let (lab, mut watcher) = lab().await;
    let will = Some((format!("{}a=b", super::client::EVENTS), "gone".to_owned()));
    let login = Login { keep_alive: 1, will, ..Login::new(&lab.connection_string()) };
    let (mut client, _) = Client::try_sign_in(&lab, &login).await;
    assert_eq!(client.read().await, Got::End);
    let told = until(&mut watcher, |what| match what {
        Happening::Telemetry(telemetry) => Some(telemetry.clone()),
        _ => None,
    })
    .await;
    assert_eq!(told.body, b"gone");
    assert_eq!((told.properties["a"].as_str(), told.properties["iothub-MessageType"].as_str()), ("b", "Will"));
    assert_eq!(disconnected(&mut watcher).await, Why::KeepAlive);
}

#[tokio::test]
async fn a_module_that_is_disabled_or_deleted_is_closed() {
    let (lab, mut watcher) = lab().await;
    let id = lab.module().clone();
    let mut client = Client::sign_in(&lab).await;
    assert!(lab.set_enabled(&id, false));
    assert_eq!(client.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::Disabled);
    assert!(lab.set_enabled(&id, true));
    let mut client = Client::sign_in(&lab).await;
    let login = Login::new(&lab.connection_string());
    assert!(lab.remove_identity(&id));
    assert_eq!(client.read().await, Got::End);
    assert_eq!(disconnected(&mut watcher).await, Why::Disabled);
    assert_eq!(Client::try_sign_in(&lab, &login).await.1, Got::ConnAck { session_present: false, code: 5 });
    assert!(!lab.remove_identity(&id));
}

#[tokio::test]
async fn only_the_good_certificate_is_believed() {
    let (lab, _watcher) = lab().await;
    let bad = [ServerCertificate::Expired, ServerCertificate::WrongName, ServerCertificate::OtherAuthority];
    for (certificate, words) in bad.into_iter().zip(["expired", "not valid for name", "UnknownIssuer"]) {
        lab.faults(|faults| faults.certificate = certificate);
        let error = Client::dial(&lab).await.err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
    lab.faults(|faults| faults.certificate = ServerCertificate::Good);
    assert!(Client::dial(&lab).await.is_ok());
}

#[tokio::test]
async fn a_port_that_is_taken_is_said() {
    let (lab, _watcher) = lab().await;
    let taken = LabOptions { port: lab.port(), ..LabOptions::default() };
    let error = twinward::lab::Lab::start(taken).await.err().unwrap().to_string();
    assert!(error.contains(&lab.port().to_string()), "{error}");
    let port = lab.port();
    lab.shutdown().await;
    assert!(twinward::lab::Lab::start(LabOptions { port, ..LabOptions::default() }).await.is_ok());
}
