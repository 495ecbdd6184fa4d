//! A raw MQTT client, and patience: everything that should come has ten seconds to come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use twinward::lab::{Happening, Lab, LabOptions, Observed, Why};

pub const PATIENCE: Duration = Duration::from_secs(10);
/// What must not come is not waited for longer than this.
pub const MOMENT: Duration = Duration::from_millis(150);
pub const EVENTS: &str = "devices/try-device/modules/azureiotsecurity/messages/events/";
pub const TWIN_ANSWERS: &str = "$iothub/twin/res/#";
pub const NOTICES: &str = "$iothub/twin/PATCH/properties/desired/#";

pub async fn lab() -> (Lab, mpsc::Receiver<Observed>) {
    with(LabOptions::default()).await
}

pub async fn with(options: LabOptions) -> (Lab, mpsc::Receiver<Observed>) {
    let lab = Lab::start(options).await.unwrap();
    let watcher = lab.observe();
    (lab, watcher)
}

/// Reads on until `wanted` gives something.
pub async fn until<T>(watcher: &mut mpsc::Receiver<Observed>, wanted: impl Fn(&Happening) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let found = timeout(PATIENCE, async {
        loop {
            let what = watcher.recv().await.unwrap().what;
            if let Some(found) = wanted(&what) {
                return found;
            }
            seen.push(what);
        }
    });
    let Ok(found) = found.await else { panic!("it did not come; seen: {seen:#?}") };
    found
}

pub async fn disconnected(watcher: &mut mpsc::Receiver<Observed>) -> Why {
    until(watcher, |what| match what {
        Happening::Disconnected(why) => Some(why.clone()),
        _ => None,
    })
    .await
}

pub async fn refused(watcher: &mut mpsc::Receiver<Observed>) -> (Option<u8>, String) {
    until(watcher, |what| match what {
        Happening::Refused { code, reason } => Some((*code, reason.clone())),
        _ => None,
    })
    .await
}

/// What CONNECT holds.
#[derive(Clone)]
pub struct Login {
    pub level: u8,
    pub client_id: String,
    pub user_name: String,
    pub password: String,
    pub clean: bool,
    pub keep_alive: u16,
    pub will: Option<(String, String)>,
}

impl Login {
    /// As a connection string says, with a token for an hour.
    pub fn new(connection_string: &str) -> Self {
        Self::with_expiry(connection_string, jiff::Timestamp::now().as_second() + 3600)
    }

    pub fn with_expiry(connection_string: &str, expires: i64) -> Self {
        let field = |name: &str| {
            connection_string.split(';').find_map(|f| f.strip_prefix(&format!("{name}="))).unwrap().to_owned()
        };
        let (host, device, module) = (field("HostName"), field("DeviceId"), field("ModuleId"));
        let resource = format!("{host}%2Fdevices%2F{device}%2Fmodules%2F{module}");
        let key = STANDARD.decode(field("SharedAccessKey")).unwrap();
        let mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap().chain_update(format!("{resource}\n{expires}"));
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        Self {
            level: 4,
            client_id: format!("{device}/{module}"),
            user_name: format!("{host}/{device}/{module}/?api-version=2021-04-12&DeviceClientType=test"),
            password: format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}"),
            clean: true,
            keep_alive: 60,
            will: None,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let flags = 0b1100_0000 | u8::from(self.clean) << 1 | if self.will.is_some() { 0b1100 } else { 0 };
        let mut body = text("MQTT");
        body.extend([self.level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        body.extend(text(&self.client_id));
        if let Some((topic, message)) = &self.will {
            body.extend(text(topic));
            body.extend(text(message));
        }
        body.extend(text(&self.user_name));
        body.extend(text(&self.password));
        packet(0x10, &body)
    }
}

pub fn text(t: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(t.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(t.as_bytes());
    bytes
}

pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = if length >= 128 { 0x80 } else { 0 };
        bytes.push(u8::try_from(length % 128).unwrap() | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A packet from the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    ConnAck {
        session_present: bool,
        code: u8,
    },
    Publish {
        topic: String,
        body: String,
    },
    PubAck(u16),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16),
    Pong,
    /// The hub hung up.
    End,
}

pub struct Client(TlsStream<TcpStream>);

impl Client {
    /// TLS only, trusting the lab's authority and asking for the hub's name.
    pub async fn dial(lab: &Lab) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(lab.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tcp = TcpStream::connect(lab.address()).await?;
        let name = ServerName::try_from(lab.host_name().to_owned()).unwrap();
        Ok(Self(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
    }

    /// Dials, sends CONNECT and gives the answer.
    pub async fn try_sign_in(lab: &Lab, login: &Login) -> (Self, Got) {
        let mut client = Self::dial(lab).await.unwrap();
        client.send(&login.bytes()).await;
        let answer = client.read().await;
        (client, answer)
    }

    /// Signs in as the first module, in a clean session.
    pub async fn sign_in(lab: &Lab) -> Self {
        let (client, answer) = Self::try_sign_in(lab, &Login::new(&lab.connection_string())).await;
        assert_eq!(answer, Got::ConnAck { session_present: false, code: 0 });
        client
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The hub may have hung up already; what it says tells.
        if self.0.write_all(bytes).await.is_ok() {
            let _ = self.0.flush().await;
        }
    }

    pub async fn publish(&mut self, topic: &str, id: u16, body: &[u8]) {
        self.publish_as(0x32, topic, id, body).await;
    }

    /// `first`: 0x30 and DUP 8, QoS 2 or 4, RETAIN 1.
    pub async fn publish_as(&mut self, first: u8, topic: &str, id: u16, body: &[u8]) {
        let id = if first & 6 == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
        self.send(&packet(first, &[&text(topic)[..], &id, body].concat())).await;
    }

    pub async fn ask_subscribe(&mut self, id: u16, filters: &[(&str, u8)]) {
        let mut body = id.to_be_bytes().to_vec();
        for (filter, qos) in filters {
            body.extend(text(filter));
            body.push(*qos);
        }
        self.send(&packet(0x82, &body)).await;
    }

    pub async fn subscribe(&mut self, filter: &str) {
        self.ask_subscribe(77, &[(filter, 0)]).await;
        assert_eq!(self.read().await, Got::SubAck(77, vec![0]));
    }

    /// Sends a ping and reads its answer: whatever the hub said before has been read then.
    pub async fn ping(&mut self) -> Vec<Got> {
        self.send(&[0xc0, 0]).await;
        let mut before = Vec::new();
        loop {
            match self.read().await {
                Got::Pong => return before,
                Got::End => panic!("the hub hung up after {before:?}"),
                other => before.push(other),
            }
        }
    }

    pub async fn read(&mut self) -> Got {
        timeout(PATIENCE, self.next()).await.unwrap().unwrap_or(Got::End)
    }

    /// True if nothing comes for a moment.
    pub async fn silent(&mut self) -> bool {
        let mut byte = [0];
        timeout(MOMENT, self.0.read(&mut byte)).await.is_err()
    }

    async fn next(&mut self) -> io::Result<Got> {
        let first = self.0.read_u8().await?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.0.read_u8().await?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        let id = || u16::from_be_bytes([body[0], body[1]]);
        Ok(match first {
            0x20 => Got::ConnAck { session_present: body[0] == 1, code: body[1] },
            0x30 => {
                let (topic, rest) = body[2..].split_at(id().into());
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                Got::Publish { topic: text(topic), body: text(rest) }
            }
            0x40 => Got::PubAck(id()),
            0x90 => Got::SubAck(id(), body[2..].to_vec()),
            0xb0 => Got::UnsubAck(id()),
            0xd0 => Got::Pong,
            other => panic!("the hub sent {other:#x}"),
        })
    }
}
