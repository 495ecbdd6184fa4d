//! From a name to a TLS connection, in steps that fail with their own error: names, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{LinkError, TlsFault, Wait};

const DNS: Duration = Duration::from_secs(10);
/// For each address.
const TCP: Duration = Duration::from_secs(10);
/// A small board needs seconds for the handshake.
const TLS: Duration = Duration::from_secs(30);
/// More addresses than this are not tried in one attempt.
const MAX_ADDRESSES: usize = 4;
/// Longest foreign text in an error.
const MAX_TEXT: usize = 200;
/// Most names of a wrong certificate that are listed.
const MAX_NAMES: usize = 5;

/// All three steps: dials `host`, and expects the certificate of `name`.
///
/// # Errors
/// Of the step that failed.
pub async fn dial(
    host: &str,
    port: u16,
    name: &str,
    tls: &Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, LinkError> {
    let addresses = resolve(host, port).await?;
    let tcp = connect(host, &addresses).await?;
    handshake(tcp, name, tls).await
}

/// The addresses of `host`, at least one and at most four.
///
/// # Errors
/// [`LinkError::Dns`], or a time-out after 10 s.
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, LinkError> {
    let failed = |why: String| LinkError::Dns { name: host.to_owned(), why: one_line(&why) };
    let addresses: Vec<_> = match timeout(DNS, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES).collect(),
        Ok(Err(e)) => return Err(failed(e.to_string())),
        Err(_) => return Err(LinkError::Timeout { what: Wait::Dns, seconds: DNS.as_secs() }),
    };
    if addresses.is_empty() { Err(failed("it has no address".to_owned())) } else { Ok(addresses) }
}

/// The first address that answers, 10 s each. `host` is for the error.
///
/// # Errors
/// [`LinkError::Tcp`] with the last address's reason, or a time-out if that was the reason.
pub async fn connect(host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, LinkError> {
    let mut error = LinkError::Dns { name: host.to_owned(), why: "it has no address".to_owned() };
    for address in addresses {
        let failed = |e: &io::Error| LinkError::Tcp {
            name: host.to_owned(),
            port: address.port(),
            why: one_line(&format!("{}: {e}", address.ip())),
        };
        match timeout(TCP, TcpStream::connect(address)).await {
            // Small packets that are waited for: PUBACK by PUBACK.
            Ok(Ok(tcp)) => match tcp.set_nodelay(true) {
                Ok(()) => return Ok(tcp),
                Err(e) => error = failed(&e),
            },
            Ok(Err(e)) => error = failed(&e),
            Err(_) => error = LinkError::Timeout { what: Wait::Tcp, seconds: TCP.as_secs() },
        }
    }
    Err(error)
}

/// TLS with SNI and checks for `name`.
///
/// # Errors
/// [`LinkError::Tls`] with the first fault, or a time-out after 30 s.
pub async fn handshake(tcp: TcpStream, name: &str, tls: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, LinkError> {
    let failed = |fault| LinkError::Tls { name: name.to_owned(), fault };
    let server = ServerName::try_from(name.to_owned())
        .map_err(|_| failed(TlsFault::Other("this is no name that a certificate can have".to_owned())))?;
    match timeout(TLS, TlsConnector::from(Arc::clone(tls)).connect(server, tcp)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(failed(fault(&e))),
        Err(_) => Err(LinkError::Timeout { what: Wait::Tls, seconds: TLS.as_secs() }),
    }
}

fn fault(error: &io::Error) -> TlsFault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(certificate)) = tls else {
        return TlsFault::Other(one_line(&error.to_string()));
    };
    match certificate {
        CertificateError::UnknownIssuer => TlsFault::UnknownCa,
        CertificateError::NotValidForName => TlsFault::WrongName { presented: Vec::new() },
        CertificateError::NotValidForNameContext { presented, .. } => {
            TlsFault::WrongName { presented: presented.iter().take(MAX_NAMES).map(|name| plain_name(name)).collect() }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFault::NotYetValid,
        other => TlsFault::Other(one_line(&format!("the server's certificate is not acceptable: {other}"))),
    }
}

/// `DnsName("a.b")`, as the library writes it, to `a.b`.
fn plain_name(name: &str) -> String {
    let inner = name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
    one_line(inner.unwrap_or(name))
}

/// Foreign text, short and on one line.
pub(super) fn one_line(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_tamed() {
        assert_eq!(one_line("a\nb\x1b[0m"), "a b [0m");
        assert_eq!(one_line(&"ä".repeat(1000)).chars().count(), MAX_TEXT);
        assert_eq!(plain_name("DnsName(\"a.b\")"), "a.b");
        assert_eq!(plain_name("IpAddress(127.0.0.1)"), "IpAddress(127.0.0.1)");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_a_dns_error() {
        // Longer than a name can be: refused without asking anybody.
        let error = resolve(&"x".repeat(300), 8883).await.unwrap_err();
        assert!(matches!(&error, LinkError::Dns { why, .. } if !why.is_empty()), "{error}");
        assert_eq!(resolve("127.0.0.1", 1).await.unwrap(), ["127.0.0.1:1".parse().unwrap()]);
    }

    #[test]
    fn certificate_faults_have_their_own_kind() {
        let of = |e| fault(&io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(e)));
        assert_eq!(of(CertificateError::UnknownIssuer), TlsFault::UnknownCa);
        assert_eq!(of(CertificateError::Expired), TlsFault::Expired);
        assert_eq!(of(CertificateError::NotValidYet), TlsFault::NotYetValid);
        assert!(matches!(of(CertificateError::BadSignature), TlsFault::Other(_)));
        assert!(matches!(fault(&io::Error::other("reset")), TlsFault::Other(_)));
    }
}
