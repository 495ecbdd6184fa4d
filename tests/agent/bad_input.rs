//! A hub that does not let the agent in, or is not the right one: the agent stays, says once why, and gets in when it
//! can.

use std::time::Duration;

use serde_json::json;
use twinward::lab::{Happening, Refusal, ServerCertificate};

use crate::harness::{Agent, Hub, LIMIT, Place, keys};

/// Milliseconds until the next attempt, as told in a line.
fn retry_in(line: &str) -> u64 {
    let (_, rest) = line.split_once("retry_in_ms=").unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Judges that the agent says once that it is down, with these words, runs on, collects, and tries again within
/// minutes, not seconds.
async fn waits_in_the_slow_lane(agent: &mut Agent, words: &str) {
    let line = agent.says("link down").await;
    assert!(line.contains(words), "{line}");
    assert!((30_000..=300_000).contains(&retry_in(&line)), "{line}");
    agent
        .status("something collected", |status| {
            assert_eq!(status["link"]["state"], "down");
            assert!(status["link"]["error"].as_str().unwrap().contains(words), "{status}");
            (status["balance"]["low"]["pending"].as_u64() > Some(0)).then_some(())
        })
        .await;
    assert_eq!(agent.lines("link down").len(), 1, "{}", agent.log());
    agent.assert_running();
}

#[tokio::test]
async fn a_refused_sign_in_is_told_once_and_tried_slowly_until_it_works() {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.refuse = Some(Refusal::ConnAck(5)));
    let mut agent = Place::new(&hub).start();
    waits_in_the_slow_lane(&mut agent, "the hub refused the sign-in (CONNACK 5): wrong key, unknown or disabled").await;
    hub.faults(|faults| faults.refuse = None);
    // The first wait of the slow lane has 30 to 60 s, longer than anything else here; then there is the sign-in.
    tokio::time::timeout(LIMIT + Duration::from_secs(60), async {
        while !hub.seen().iter().any(|what| matches!(what, Happening::Connected { .. })) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    agent.linked().await;
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_wrong_key_and_a_disabled_module_do_not_end_the_agent() {
    let mut hub = Hub::start().await;
    let right = hub.connection_string();
    let (front, _) = right.split_once("SharedAccessKey=").unwrap();
    let wrong = format!("{front}SharedAccessKey=TmV2ZXJTaG93VGhpc0tleSE=");
    let mut stranger = Place::with(&wrong, hub.port(), hub.ca_pem(), "info").start();
    waits_in_the_slow_lane(&mut stranger, "CONNACK 5").await;
    assert!(!hub.seen().iter().any(|what| matches!(what, Happening::Connected { .. })));
    stranger.stop().await;

    let agent = Place::new(&hub).start();
    agent.linked().await;
    let module = hub.module().clone();
    let mark = hub.mark();
    assert!(hub.set_enabled(&module, false));
    hub.until_after(mark, "a refusal", |what| matches!(what, Happening::Refused { .. }).then_some(())).await;
    agent
        .status("down", |status| {
            status["link"]["error"].as_str().unwrap().contains("the hub refused the sign-in").then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_gets_no_token() {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.certificate = ServerCertificate::OtherAuthority);
    let mut agent = Place::new(&hub).start();
    waits_in_the_slow_lane(&mut agent, "the server's certificate is signed by no trusted root").await;
    assert!(!hub.seen().iter().any(|what| matches!(what, Happening::Connected { .. })));
}

#[tokio::test]
async fn a_server_of_another_name_gets_no_token() {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.certificate = ServerCertificate::WrongName);
    let mut agent = Place::new(&hub).start();
    let words = "the server's certificate is for elsewhere.example, not for lab.azure-devices.net; check HostName";
    waits_in_the_slow_lane(&mut agent, words).await;
    assert!(!hub.seen().iter().any(|what| matches!(what, Happening::Connected { .. })));
}

#[tokio::test]
async fn an_expired_certificate_is_told_and_a_renewed_one_is_taken() {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.certificate = ServerCertificate::Expired);
    let mut agent = Place::new(&hub).start();
    let line = agent.says("link down").await;
    assert!(line.contains("the server's certificate has expired; check the date of this machine"), "{line}");
    hub.faults(|faults| faults.certificate = ServerCertificate::Good);
    hub.connected(0).await;
    agent.linked().await;
    agent.books_agree(&mut hub).await;
}

#[tokio::test]
async fn a_hub_that_cannot_be_reached_is_told_and_found_when_it_is_there() {
    let mut hub = Hub::start().await;
    hub.faults(|faults| faults.cut = true);
    hub.until("the cut", |seen| seen.contains(&Happening::Listening { on: false }).then_some(())).await;
    let mut agent = Place::new(&hub).start();
    let line = agent.says("link down").await;
    let words = format!("cannot reach 127.0.0.1 port {}", hub.port());
    assert!(line.contains(&words) && line.contains("a firewall lets TCP"), "{line}");
    hub.faults(|faults| faults.cut = false);
    agent.linked().await;
    let version = hub.patch_desired(keys([("hubResourceId", json!("found"))])).unwrap();
    hub.taken(version).await;
    agent.books_agree(&mut hub).await;
}
