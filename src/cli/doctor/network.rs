//! Name resolution and TCP: each step and each address by itself, each at most [`STEP`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::sys::clock::Clock;

use super::finding::{Check, Finding};

/// The longest that one network step may take.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// As many addresses of a name are tried.
const ADDRESSES: usize = 8;

/// Looks the name up; an address is taken as it is.
pub(super) async fn resolve(name: &str, port: u16, clock: &dyn Clock) -> (Finding, Vec<SocketAddr>) {
    let start = clock.now().mono;
    let answer = match timeout(STEP, lookup_host((name, port))).await {
        Ok(answer) => answer.map(|found| found.take(ADDRESSES).collect()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")),
    };
    let took = clock.now().mono.since(start);
    let finding = resolution(name, port, &answer, took);
    (finding, answer.unwrap_or_default())
}

fn resolution(name: &str, port: u16, answer: &io::Result<Vec<SocketAddr>>, took: Duration) -> Finding {
    match answer {
        Ok(addresses) if addresses.is_empty() => Finding::failed(
            Check::NameResolution,
            format!("{name} has no address"),
            "check HostName and GatewayHostName in the connection string, or hub.host",
        ),
        Ok(addresses) => {
            let list: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            Finding::ok(
                Check::NameResolution,
                format!("{name} port {port}: {} ({} ms)", list.join(", "), took.as_millis()),
            )
        }
        Err(error) => Finding::failed(
            Check::NameResolution,
            format!("{name}: {error}"),
            "check the name in the connection string or hub.host, the network, and the DNS server in /etc/resolv.conf",
        ),
    }
}

/// What came of one address.
type Attempt = (SocketAddr, Result<Duration, String>);

/// Connects to all addresses at once; gives a finding for each, and the first connection in the order of the resolver.
pub(super) async fn connect(addresses: &[SocketAddr], clock: &dyn Clock) -> (Vec<Finding>, Option<TcpStream>) {
    let start = clock.now().mono;
    let mut tasks = JoinSet::new();
    for (i, address) in addresses.iter().copied().enumerate() {
        tasks.spawn(async move { (i, address, timeout(STEP, TcpStream::connect(address)).await) });
    }
    let mut made = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let took = clock.now().mono.since(start);
        let Ok((i, address, outcome)) = joined else { continue };
        let (result, stream) = match outcome {
            Ok(Ok(stream)) => (Ok(took), Some(stream)),
            Ok(Err(error)) => (Err(error.to_string()), None),
            Err(_) => (Err("no answer within 10 s".to_owned()), None),
        };
        made.push((i, (address, result), stream));
    }
    made.sort_by_key(|(i, ..)| *i);
    let attempts: Vec<Attempt> = made.iter().map(|(_, attempt, _)| attempt.clone()).collect();
    (connections(&attempts), made.into_iter().find_map(|(.., stream)| stream))
}

/// An address that fails is a fault only if no other one works.
fn connections(attempts: &[Attempt]) -> Vec<Finding> {
    let any = attempts.iter().any(|(_, result)| result.is_ok());
    let finding = |(address, result): &Attempt| match result {
        Ok(took) => Finding::ok(Check::Tcp, format!("{address}: connected ({} ms)", took.as_millis())),
        Err(why) if any => {
            let advice = if address.is_ipv6() { "none is needed if this network has no IPv6" } else { "" };
            Finding::warning(Check::Tcp, format!("{address}: {why}"), advice)
        }
        Err(why) => Finding::failed(
            Check::Tcp,
            format!("{address}: {why}"),
            format!("check the route, and that a firewall lets TCP {} out", address.port()),
        ),
    };
    attempts.iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::sys::clock::ManualClock;

    fn clock() -> ManualClock {
        ManualClock::new("2026-11-22T09:30:00Z".parse().unwrap())
    }

    #[test]
    fn a_failed_address_is_a_fault_only_if_none_works() {
        let (four, six) = ("192.0.2.1:8883".parse().unwrap(), "[2001:db8::1]:8883".parse().unwrap());
        let mixed = [(four, Ok(Duration::from_millis(7))), (six, Err("unreachable".to_owned()))];
        let text: String = connections(&mixed).iter().map(Finding::text).collect();
        insta::assert_snapshot!(text, @r"
        ok       tcp                192.0.2.1:8883: connected (7 ms)
        warning  tcp                [2001:db8::1]:8883: unreachable
                                    what to do: none is needed if this network has no IPv6
        ");
        let none = [(four, Err("refused".to_owned())), (six, Err("unreachable".to_owned()))];
        assert!(connections(&none).iter().all(|f| f.result == Verdict::Failed && f.advice.contains("TCP 8883")));
    }

    #[test]
    fn a_name_without_address_fails() {
        let empty = resolution("h.net", 8883, &Ok(Vec::new()), Duration::ZERO);
        assert_eq!(empty.result, Verdict::Failed);
        let broken = resolution("h.net", 8883, &Err(io::Error::other("no such name")), Duration::ZERO);
        assert!(broken.result == Verdict::Failed && broken.detail == "h.net: no such name", "{broken:?}");
    }

    #[tokio::test]
    async fn a_listener_is_reached_and_a_closed_port_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let (finding, addresses) = resolve("127.0.0.1", open.port(), &clock()).await;
        assert_eq!((finding.result, addresses.as_slice()), (Verdict::Ok, [open].as_slice()));
        let (findings, stream) = connect(&addresses, &clock()).await;
        assert_eq!(findings[0].result, Verdict::Ok);
        assert_eq!(stream.unwrap().peer_addr().unwrap(), open);
        drop(listener);
        let (findings, stream) = connect(&addresses, &clock()).await;
        assert_eq!(findings[0].result, Verdict::Failed);
        assert!(stream.is_none());
    }
}
