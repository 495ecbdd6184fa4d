//! The TLS handshake, done as the agent does it: the same configuration, the same roots, the same verdict. The chain is
//! noted before it is judged, so that it can be shown when it is refused.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::certificate::{self, Certificate};
use super::finding::{Check, Finding};
use super::network::STEP;

/// As many certificates of a chain are shown.
const CHAIN: usize = 10;

/// Notes what the server shows, and leaves the verdict to the real verifier.
#[derive(Debug)]
struct Recorder {
    real: Arc<WebPkiServerVerifier>,
    seen: Mutex<Vec<Option<Certificate>>>,
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates).take(CHAIN);
        let chain = chain.map(|der| Certificate::read(der)).collect();
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        self.real.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.real.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.real.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.real.supported_verify_schemes()
    }
}

/// Shakes hands as a client that expects `name`, and judges. `now` is for the dates of the certificates only.
pub(super) async fn handshake(
    stream: TcpStream,
    name: &str,
    config: &ClientConfig,
    roots: RootCertStore,
    now: Timestamp,
) -> Vec<Finding> {
    let provider = Arc::clone(config.crypto_provider());
    let real = match WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() {
        Ok(real) => real,
        Err(error) => return vec![Finding::failed(Check::Tls, error.to_string(), "install the CA certificates")],
    };
    let Ok(server) = ServerName::try_from(name.to_owned()) else {
        let detail = format!("{name} is no name that a certificate can be for");
        return vec![Finding::failed(Check::Tls, detail, "check HostName and GatewayHostName")];
    };
    let recorder = Arc::new(Recorder { real, seen: Mutex::default() });
    let mut config = config.clone();
    // A resumed session shows no certificates.
    config.resumption = Resumption::disabled();
    config.dangerous().set_certificate_verifier(Arc::clone(&recorder) as Arc<dyn ServerCertVerifier>);

    let outcome = timeout(STEP, TlsConnector::from(Arc::new(config)).connect(server, stream)).await;
    let chain = std::mem::take(&mut *recorder.seen.lock().unwrap_or_else(PoisonError::into_inner));
    let mut findings = certificate::findings(&chain, now);
    findings.push(match outcome {
        Ok(Ok(stream)) => {
            let version =
                stream.get_ref().1.protocol_version().and_then(|v| v.as_str()).unwrap_or("TLS").replace('_', ".");
            Finding::ok(Check::Tls, format!("{name}: {version}, the chain, the name and the dates are right"))
        }
        Ok(Err(error)) => refused(name, &error, &chain),
        Err(_) => Finding::failed(
            Check::Tls,
            format!("{name}: the handshake did not end within 10 s"),
            "check that the port is the one of MQTT over TLS (8883), and that no firewall swallows it",
        ),
    });
    findings
}

/// The first fault, and what to do about it.
fn refused(name: &str, error: &io::Error, chain: &[Option<Certificate>]) -> Finding {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let server = chain.first().and_then(Option::as_ref);
    let (detail, advice) = match tls {
        Some(Error::InvalidCertificate(fault)) => certificate_fault(fault, name, server, chain),
        Some(Error::AlertReceived(alert)) => (
            format!("the server refused the handshake: {}", alert_text(*alert)),
            "check that this is an IoT Hub or a gateway, and that it speaks TLS 1.2 or newer".to_owned(),
        ),
        Some(Error::InvalidMessage(_)) => (
            "the answer is no TLS".to_owned(),
            "check hub.port: 8883 is the port of MQTT over TLS; a proxy that answers in plain text is not possible"
                .to_owned(),
        ),
        Some(other) => (other.to_string(), "check that this is an IoT Hub or a gateway".to_owned()),
        None => (
            format!("the connection broke off during the handshake: {error}"),
            "check hub.port, and that no firewall or proxy cuts connections with unknown content".to_owned(),
        ),
    };
    Finding::failed(Check::Tls, format!("{name}: {detail}"), advice)
}

fn certificate_fault(
    fault: &CertificateError,
    name: &str,
    server: Option<&Certificate>,
    chain: &[Option<Certificate>],
) -> (String, String) {
    use CertificateError as E;
    match fault {
        E::UnknownIssuer => {
            let last = chain.last().and_then(Option::as_ref).map_or("its issuer", |c| c.issuer.as_str());
            (
                "no trusted CA stands behind the server's certificate".to_owned(),
                format!(
                    "if you expect {last}, put that CA's certificate (PEM) into a file and name it in hub.ca_file; \
                     if you do not, something between here and the hub opens the connection"
                ),
            )
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            let names = server.map(|c| c.names.join(", ")).filter(|n| !n.is_empty());
            (
                format!("the server's certificate is for {}, not for {name}", names.as_deref().unwrap_or("no name")),
                "check HostName or GatewayHostName in the connection string, and that hub.host leads to that machine"
                    .to_owned(),
            )
        }
        E::Expired | E::ExpiredContext { .. } => {
            let ended = |c: &&Certificate| chain.iter().flatten().all(|other| c.not_after <= other.not_after);
            let first = chain.iter().flatten().find(ended);
            let when = first.map_or_else(String::new, |c| format!(": {} ended at {}", c.subject, c.not_after));
            (
                format!("a certificate has expired{when}"),
                "renew it on the server; if the date is still to come, set the clock of this machine".to_owned(),
            )
        }
        E::NotValidYet | E::NotValidYetContext { .. } => {
            let begins = |c: &&Certificate| chain.iter().flatten().all(|other| c.not_before >= other.not_before);
            let last = chain.iter().flatten().find(begins);
            let when = last.map_or_else(String::new, |c| format!(": {} begins at {}", c.subject, c.not_before));
            (
                format!("a certificate is not valid yet{when}"),
                "the clock of this machine is probably behind: set it (timedatectl set-ntp true)".to_owned(),
            )
        }
        E::BadSignature => (
            "a CA of the same name is trusted, but another key has signed the server's certificate".to_owned(),
            "if the CA was made anew, put its new certificate into hub.ca_file; if not, do not trust this server"
                .to_owned(),
        ),
        E::Revoked => ("the server's certificate is revoked".to_owned(), "renew it on the server".to_owned()),
        other => (
            format!("the server's certificate is unusable: {other}"),
            "renew it on the server, as an ordinary server certificate that a CA has signed".to_owned(),
        ),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    alert.as_str().map_or_else(|| format!("{alert:?}"), str::to_owned)
}
