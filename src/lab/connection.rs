//! One connection, from TCP to its end.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::faults::{Faults, PubAckFault, Refusal};
use super::identity::{Live, Outbound};
use super::observed::{Happening, Why};
use super::packet::{Connect, Packet, Will};
use super::reply;
use super::session::{self, Action};
use super::shared::Shared;
use super::signin::{Denied, SignedIn, judge};
use super::topic::{self, Properties};
use super::wire::Wire;

/// The hub waits 1.5 times the keep-alive, and never longer than this.
const LONGEST_QUIET: Duration = Duration::from_secs(1767);
/// How much may wait to be sent to a client that does not read.
const OUTBOUND: usize = 256;
/// How long a PUBACK that is to be overtaken waits for the one that overtakes it.
const OVERTAKEN: Duration = Duration::from_secs(1);
/// How long a refused client may take to hang up.
const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(super) async fn serve(shared: Arc<Shared>, tcp: TcpStream) {
    let mut faults = shared.faults.subscribe();
    let (refuse, certificate) = {
        let faults = faults.borrow_and_update();
        (faults.refuse, faults.certificate)
    };
    if refuse == Some(Refusal::Close) {
        return refused(&shared, "", None, "refused on request").await;
    }
    let acceptor = shared.certificates.acceptor(certificate);
    let greeting = async {
        let stream = acceptor.accept(tcp).await.map_err(|error| format!("TLS: {error}"))?;
        let mut wire = Wire::new(stream);
        let packet = first_packet(&shared, &mut wire).await;
        Ok((wire, packet))
    };
    let greeted = tokio::select! {
        why = interrupted(&shared, &mut faults) => Err(why.to_string()),
        greeted = timeout(shared.sign_in_limit, greeting) => {
            greeted.unwrap_or_else(|_| Err("no sign-in within the time the hub gives".to_owned()))
        }
    };
    match greeted {
        Err(reason) => refused(&shared, "", None, &reason).await,
        Ok((_, Err(why))) => refused(&shared, "", None, &why.to_string()).await,
        Ok((wire, Ok(Packet::Connect(connect)))) => sign_in(&shared, wire, &connect, faults).await,
        Ok((_, Ok(_))) => refused(&shared, "", None, "the first packet is not CONNECT").await,
    }
}

async fn first_packet<S: AsyncRead + AsyncWrite + Unpin>(shared: &Shared, wire: &mut Wire<S>) -> Result<Packet, Why> {
    let mut faults = shared.faults.subscribe();
    loop {
        let (stall, last_byte) = {
            let faults = faults.borrow_and_update();
            (faults.stall, faults.close_at_byte)
        };
        tokio::select! {
            _ = faults.changed() => {}
            packet = wire.next(last_byte), if !stall => return packet.inspect_err(|why| spend(shared, why)),
        }
    }
}

/// A byte that a connection was closed at is closed at once only.
fn spend(shared: &Shared, why: &Why) {
    if let Why::ClosedAtByte(_) = why {
        shared.faults.send_modify(|faults| faults.close_at_byte = None);
    }
}

async fn refused(shared: &Shared, client: &str, code: Option<u8>, reason: &str) {
    shared.tell(client, Happening::Refused { code, reason: reason.to_owned() }).await;
}

/// Waits until the lab ends or is cut off.
async fn interrupted(shared: &Shared, faults: &mut watch::Receiver<Faults>) -> Why {
    tokio::select! {
        () = shared.ending.cancelled() => Why::ShutDown,
        cut = async { faults.wait_for(|faults| faults.cut).await.is_ok() } => if cut { Why::Cut } else { Why::ShutDown },
    }
}

async fn sign_in<S>(shared: &Arc<Shared>, mut wire: Wire<S>, connect: &Connect, mut faults: watch::Receiver<Faults>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let serial = shared.serial();
    let (outbound, outbound_rx) = mpsc::channel(OUTBOUND);
    let (closer, mut closer_rx) = mpsc::channel(1);
    let (refuse, lose_session) = {
        let faults = faults.borrow_and_update();
        (faults.refuse, faults.lose_session)
    };
    let now = shared.now();
    let outcome = shared.with(|registry| {
        if let Some(Refusal::ConnAck(code)) = refuse {
            return Err(Denied { code: Some(code), reason: "refused on request".to_owned() });
        }
        let signed_in = judge(connect, registry, &shared.rules, now.as_second())?;
        let mut session_present = false;
        if let Some(record) = registry.get_mut(&connect.client_id) {
            record.close(Why::Replaced);
            let live = Live { serial, clean: connect.clean_session, outbound, closer };
            let ended = record.live.replace(live).is_some_and(|before| before.clean);
            record.session = record.session.take().filter(|_| !connect.clean_session && !lose_session && !ended);
            session_present = record.session.is_some();
            record.session.get_or_insert_default();
        }
        Ok((signed_in, session_present))
    });
    let (signed_in, session_present) = match outcome {
        Ok(outcome) => outcome,
        Err(denied) => {
            refused(shared, &connect.client_id, denied.code, &denied.reason).await;
            if let Some(code) = denied.code
                && wire.send(&reply::conn_ack(false, code)).await.is_ok()
            {
                tokio::select! {
                    _ = interrupted(shared, &mut faults) => {}
                    // A client that does not hang up is hung up on.
                    _ = timeout(LINGER, wire.finish()) => {}
                }
            }
            return;
        }
    };
    let SignedIn { id, token_expires, will } = signed_in;
    let client = id.to_string();
    let ends = Instant::now() + until(token_expires, shared.cut_after_expiry, now);
    let mut connection = Connection {
        shared,
        client: &client,
        wire,
        delayed: BTreeMap::new(),
        sends: 0,
        overtaken: None,
        heard: Instant::now(),
        patience: patience(connect.keep_alive),
        ends,
    };
    let told = Happening::Connected {
        clean_session: connect.clean_session,
        session_present,
        keep_alive: connect.keep_alive,
        user_name: connect.user_name.clone().unwrap_or_default(),
    };
    let why = tokio::select! {
        biased;
        why = interrupted(shared, &mut faults) => why,
        why = closer_rx.recv() => why.unwrap_or(Why::ShutDown),
        why = connection.run(told, session_present, outbound_rx) => why,
    };
    spend(shared, &why);
    drop(connection);
    ended(shared, &client, serial, why, will).await;
}

async fn ended(shared: &Shared, client: &str, serial: u64, why: Why, will: Option<(Properties, Will)>) {
    shared.with(|registry| {
        if let Some(record) = registry.get_mut(client)
            && let Some(live) = record.live.take_if(|live| live.serial == serial)
            && live.clean
        {
            record.session = None;
        }
    });
    if why != Why::ClientLeft
        && let Some((properties, will)) = will
        && let Ok(telemetry) = session::last_words(properties, will)
    {
        shared.tell(client, Happening::Telemetry(telemetry)).await;
    }
    shared.tell(client, Happening::Disconnected(why)).await;
}

/// From `now` to the cut. A token may have expired already, and still be forgiven.
fn until(expires: i64, cut_after: Duration, now: jiff::Timestamp) -> Duration {
    let cut = expires.saturating_add(i64::try_from(cut_after.as_secs()).unwrap_or(i64::MAX));
    // A year is longer than any lab runs, and safe to add to an instant.
    let left = cut.saturating_sub(now.as_second()).clamp(0, 366 * 86_400);
    Duration::from_secs(left.unsigned_abs())
}

fn patience(keep_alive: u16) -> Duration {
    match keep_alive {
        0 => LONGEST_QUIET,
        seconds => (Duration::from_secs(seconds.into()) * 3 / 2).min(LONGEST_QUIET),
    }
}

/// A module that has signed in.
struct Connection<'a, S> {
    shared: &'a Arc<Shared>,
    client: &'a str,
    wire: Wire<S>,
    /// What is to be sent later, by time and order.
    delayed: BTreeMap<(Instant, u64), Vec<u8>>,
    sends: u64,
    /// A PUBACK in `delayed` that waits to be overtaken.
    overtaken: Option<(Instant, u64)>,
    /// When the last packet came.
    heard: Instant,
    patience: Duration,
    /// When the hub cuts, because the token has long expired.
    ends: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self, told: Happening, session_present: bool, outbound: mpsc::Receiver<Outbound>) -> Why {
        self.shared.tell(self.client, told).await;
        match self.serve(session_present, outbound).await {
            Err(why) => why,
            Ok(never) => match never {},
        }
    }

    async fn serve(
        &mut self,
        session_present: bool,
        mut outbound: mpsc::Receiver<Outbound>,
    ) -> Result<std::convert::Infallible, Why> {
        self.wire.send(&reply::conn_ack(session_present, 0)).await?;
        let mut faults = self.shared.faults.subscribe();
        loop {
            let (stall, last_byte) = {
                let faults = faults.borrow_and_update();
                (faults.stall, faults.close_at_byte)
            };
            let quiet = (!stall).then_some(self.heard + self.patience);
            tokio::select! {
                biased;
                () = sleep_until(self.ends) => return Err(Why::TokenExpired),
                _ = faults.changed() => {
                    if stall {
                        self.heard = Instant::now();
                    }
                }
                () = at(self.delayed.keys().next().map(|(time, _)| *time)) => self.send_due().await?,
                Some(outbound) = outbound.recv() => self.pass_on(outbound).await?,
                packet = self.wire.next(last_byte), if !stall => {
                    self.heard = Instant::now();
                    self.act(packet?).await?;
                }
                // After the read, so that what came in time counts even if the hub was slow to look.
                () = at(quiet) => return Err(Why::KeepAlive),
            }
        }
    }

    async fn act(&mut self, packet: Packet) -> Result<(), Why> {
        let faults = self.shared.faults.borrow().clone();
        let now = self.shared.now();
        let actions = self
            .shared
            .with(|registry| registry.get_mut(self.client).map(|record| session::handle(packet, record, &faults, now)));
        for action in actions.ok_or(Why::Disabled)? {
            match action {
                Action::Send(bytes) => self.wire.send(&bytes).await?,
                Action::SendLater(wait, bytes) => drop(self.later(wait, bytes)),
                Action::Acknowledge(id) => self.acknowledge(id, faults.pub_ack).await?,
                Action::Tell(what) => self.shared.tell(self.client, what).await,
                Action::Close(why) => return Err(why),
            }
        }
        Ok(())
    }

    async fn acknowledge(&mut self, id: u16, fault: PubAckFault) -> Result<(), Why> {
        let bytes = reply::pub_ack(id);
        match fault {
            PubAckFault::None => self.wire.send(&bytes).await,
            PubAckFault::Withhold => Ok(()),
            PubAckFault::LateMs(ms) => {
                self.later(Duration::from_millis(ms), bytes);
                Ok(())
            }
            PubAckFault::Duplicate => self.wire.send(&[bytes.clone(), bytes].concat()).await,
            PubAckFault::OutOfOrder => {
                if let Some(held) = self.overtaken.take().and_then(|key| self.delayed.remove(&key)) {
                    return self.wire.send(&[bytes, held].concat()).await;
                }
                self.overtaken = Some(self.later(OVERTAKEN, bytes));
                Ok(())
            }
        }
    }

    fn later(&mut self, wait: Duration, bytes: Vec<u8>) -> (Instant, u64) {
        self.sends += 1;
        let now = Instant::now();
        let key = (now.checked_add(wait).unwrap_or(now), self.sends);
        self.delayed.insert(key, bytes);
        key
    }

    async fn send_due(&mut self) -> Result<(), Why> {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= Instant::now()
        {
            let bytes = entry.remove();
            self.wire.send(&bytes).await?;
        }
        Ok(())
    }

    async fn pass_on(&mut self, outbound: Outbound) -> Result<(), Why> {
        match outbound {
            Outbound::Desired(notice) => {
                let version = notice.version;
                let topic = format!("$iothub/twin/PATCH/properties/desired/?$version={version}");
                self.wire.send(&reply::publish(&topic, &notice.body())).await?;
                self.shared.tell(self.client, Happening::DesiredSent { version }).await;
            }
            Outbound::Method { name, rid, body } => {
                self.wire.send(&reply::publish(&topic::method_call(&name, &rid), &body)).await?;
                self.shared.tell(self.client, Happening::MethodSent { name, rid }).await;
            }
        }
        Ok(())
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
