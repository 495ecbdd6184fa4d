//! The scripted server: TLS with a CA of its own, and MQTT packets as bytes, written without any MQTT code of ours.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Nothing here takes this long; it turns a hang into a failure.
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const HUB: &str = "hub.example.net";
pub const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub const SUBACK: [u8; 6] = [0x90, 4, 0, 1, 0, 0];

#[track_caller]
pub fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move { timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain at {place}")) }
}

/// A CA of its own and a listening server.
pub struct Server {
    pub listener: TcpListener,
    pub acceptor: TlsAcceptor,
    pub ca: tempfile::NamedTempFile,
}

impl Server {
    pub async fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_certificate = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![HUB.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(ca_certificate.pem().as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, acceptor: TlsAcceptor::from(Arc::new(config)), ca }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub async fn accept(&self) -> Peer {
        soon(async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            Peer(self.acceptor.accept(tcp).await.unwrap())
        })
        .await
    }

    /// Up to the answered GET.
    pub async fn sign_in(&self, twin: &Value) -> Peer {
        let mut peer = self.accept().await;
        assert_eq!(peer.packet().await.0, 0x10);
        peer.send(&CONNACK).await;
        assert_eq!(peer.packet().await.0, 0x82);
        peer.send(&SUBACK).await;
        let (topic, rid) = peer.twin_request().await;
        assert_eq!(topic, "$iothub/twin/GET/");
        peer.publish(&format!("$iothub/twin/res/200/?$rid={rid}"), &twin.to_string()).await;
        peer
    }
}

/// The server's end of one connection.
pub struct Peer(pub TlsStream<TcpStream>);

impl Peer {
    /// First byte and body.
    pub async fn packet(&mut self) -> (u8, Vec<u8>) {
        soon(async {
            let kind = self.0.read_u8().await.unwrap();
            let (mut length, mut shift) = (0_usize, 0);
            loop {
                let byte = self.0.read_u8().await.unwrap();
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.unwrap();
            (kind, body)
        })
        .await
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    pub async fn publish(&mut self, topic: &str, payload: &str) {
        let mut packet = vec![0x30];
        let mut length = 2 + topic.len() + payload.len();
        while length >= 0x80 {
            packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        packet.push(u8::try_from(length).unwrap());
        packet.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(payload.as_bytes());
        self.send(&packet).await;
    }

    pub async fn puback(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    /// Topic and `$rid` of a twin request, QoS 0.
    pub async fn twin_request(&mut self) -> (String, String) {
        let (topic, rid, _) = self.twin_request_with_body().await;
        (topic, rid)
    }

    pub async fn twin_request_with_body(&mut self) -> (String, String, String) {
        let (kind, body) = self.packet().await;
        assert_eq!(kind, 0x30);
        let (topic, payload) = text(&body);
        let (topic, rid) = topic.split_once("?$rid=").unwrap();
        (topic.to_owned(), rid.to_owned(), String::from_utf8(payload.to_vec()).unwrap())
    }

    /// Topic, packet id and body of a message, QoS 1.
    pub async fn message(&mut self) -> (String, u16, String) {
        let (kind, body) = self.packet().await;
        assert_eq!(kind, 0x32);
        let (topic, rest) = text(&body);
        (topic, u16::from_be_bytes([rest[0], rest[1]]), String::from_utf8(rest[2..].to_vec()).unwrap())
    }

    /// Until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // The client does not say good-bye in TLS, which the library calls an error; what was read counts.
        let _ = soon(self.0.read_to_end(&mut rest)).await;
        rest
    }
}

/// A text with its length before it, and what follows.
pub fn text(body: &[u8]) -> (String, &[u8]) {
    let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
    (String::from_utf8(body[2..2 + length].to_vec()).unwrap(), &body[2 + length..])
}
