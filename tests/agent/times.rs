//! What an event says about when it happened, and which one it is.

use jiff::Timestamp;

use crate::harness::{Hub, Place};

#[tokio::test]
async fn events_have_the_time_in_utc_and_in_the_zone_of_the_machine_and_ids_of_their_own() {
    for (zone, offset) in [("UTC0", "+00:00"), ("IST-5:30", "+05:30"), ("NST3:30", "-03:30")] {
        let mut hub = Hub::start().await;
        let before = Timestamp::now();
        let agent = Place::new(&hub).start_with(&[("TZ", zone)]);
        agent.linked().await;
        hub.taken(1).await;
        hub.provoke("now");
        hub.provoked("now").await;
        agent.books_agree(&mut hub).await;
        let events = hub.events();
        assert_eq!(events.len(), hub.messages().iter().map(|message| message.events.len()).sum::<usize>());
        for (id, event) in events {
            assert_eq!((id.len(), &id[14..15]), (36, "4"), "a random GUID: {id}");
            let (utc, local) = (event["TimestampUTC"].as_str().unwrap(), event["TimestampLocal"].as_str().unwrap());
            assert!(utc.len() == 24 && utc.ends_with('Z'), "{utc}");
            assert!(local.len() == 29 && local.ends_with(offset), "{local}");
            let at: Timestamp = utc.parse().unwrap();
            assert_eq!(local.parse::<Timestamp>().unwrap(), at);
            // Written to the millisecond.
            assert!(before.as_millisecond() <= at.as_millisecond() && at <= Timestamp::now(), "{utc}");
            assert!(!event["Payload"].to_string().contains("TimeTrusted"), "the clock of this machine is right");
        }
    }
}
