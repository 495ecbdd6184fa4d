//! TLS faults for real: a server on loopback, with certificates made for each fault.

use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::finding::{Finding, Verdict};
use super::tls::handshake;

const NAME: &str = "hub.test";

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

fn authority() -> Authority {
    named_authority("test authority")
}

fn named_authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Authority { issuer: Issuer::new(params, key), certificate }
}

/// A server certificate for `name`, good in the given years.
fn server(authority: &Authority, name: &str, from: i32, to: i32) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "test server");
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap().der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

fn client(roots: &RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots.clone())
        .with_no_client_auth()
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.clone()).unwrap();
    roots
}

/// What the doctor finds at a server with that configuration; `None` is one that does not speak TLS.
async fn findings(server: Option<Arc<ServerConfig>>, trusted: &Authority) -> Vec<Finding> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        match server {
            // The client's refusal is the point of some tests.
            Some(config) => drop(TlsAcceptor::from(config).accept(stream).await),
            None => stream.write_all(b"220 mail.test ESMTP\r\n").await.unwrap(),
        }
    };
    let roots = roots(trusted);
    let config = client(&roots);
    let ask = async {
        let stream = TcpStream::connect(address).await.unwrap();
        handshake(stream, NAME, &config, roots, "2026-11-22T09:30:00Z".parse::<Timestamp>().unwrap()).await
    };
    tokio::join!(serve, ask).1
}

fn text(findings: &[Finding]) -> String {
    findings.iter().map(Finding::text).collect()
}

#[tokio::test]
async fn a_good_server_passes_and_its_chain_is_shown() {
    let authority = authority();
    let found = findings(Some(server(&authority, NAME, 2025, 2080)), &authority).await;
    insta::assert_snapshot!(text(&found), @r"
    ok       certificate        1: CN=test server, issued by CN=test authority, valid 2025-01-01T00:00:00Z to 2080-01-01T00:00:00Z, for hub.test
    ok       tls                hub.test: TLSv1.3, the chain, the name and the dates are right
    ");
}

#[tokio::test]
async fn an_unknown_ca_is_named_and_the_chain_is_still_shown() {
    let found = findings(Some(server(&authority(), NAME, 2025, 2080)), &named_authority("trusted authority")).await;
    insta::assert_snapshot!(text(&found), @r"
    ok       certificate        1: CN=test server, issued by CN=test authority, valid 2025-01-01T00:00:00Z to 2080-01-01T00:00:00Z, for hub.test
    failed   tls                hub.test: no trusted CA stands behind the server's certificate
                                what to do: if you expect CN=test authority, put that CA's certificate (PEM) into a file and name it in hub.ca_file; if you do not, something between here and the hub opens the connection
    ");
}

#[tokio::test]
async fn a_ca_that_was_made_anew_under_its_old_name_is_recognised() {
    let found = findings(Some(server(&authority(), NAME, 2025, 2080)), &authority()).await;
    insta::assert_snapshot!(text(&found), @r"
    ok       certificate        1: CN=test server, issued by CN=test authority, valid 2025-01-01T00:00:00Z to 2080-01-01T00:00:00Z, for hub.test
    failed   tls                hub.test: a CA of the same name is trusted, but another key has signed the server's certificate
                                what to do: if the CA was made anew, put its new certificate into hub.ca_file; if not, do not trust this server
    ");
}

#[tokio::test]
async fn a_wrong_name_is_told_with_the_right_ones() {
    let authority = authority();
    let found = findings(Some(server(&authority, "other.test", 2025, 2080)), &authority).await;
    insta::assert_snapshot!(text(&found), @r"
    ok       certificate        1: CN=test server, issued by CN=test authority, valid 2025-01-01T00:00:00Z to 2080-01-01T00:00:00Z, for other.test
    failed   tls                hub.test: the server's certificate is for other.test, not for hub.test
                                what to do: check HostName or GatewayHostName in the connection string, and that hub.host leads to that machine
    ");
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_its_date() {
    let authority = authority();
    let found = findings(Some(server(&authority, NAME, 2021, 2022)), &authority).await;
    insta::assert_snapshot!(text(&found), @r"
    warning  certificate        1: CN=test server, issued by CN=test authority, valid 2021-01-01T00:00:00Z to 2022-01-01T00:00:00Z, for hub.test: expired
                                what to do: renew it on the server
    failed   tls                hub.test: a certificate has expired: CN=test server ended at 2022-01-01T00:00:00Z
                                what to do: renew it on the server; if the date is still to come, set the clock of this machine
    ");
}

#[tokio::test]
async fn a_certificate_of_the_future_points_to_the_clock() {
    let authority = authority();
    let found = findings(Some(server(&authority, NAME, 2080, 2081)), &authority).await;
    insta::assert_snapshot!(text(&found), @r"
    warning  certificate        1: CN=test server, issued by CN=test authority, valid 2080-01-01T00:00:00Z to 2081-01-01T00:00:00Z, for hub.test: not valid yet
                                what to do: compare with the clock of this machine
    failed   tls                hub.test: a certificate is not valid yet: CN=test server begins at 2080-01-01T00:00:00Z
                                what to do: the clock of this machine is probably behind: set it (timedatectl set-ntp true)
    ");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_points_to_the_port() {
    let found = findings(None, &authority()).await;
    insta::assert_snapshot!(text(&found), @r"
    failed   tls                hub.test: the answer is no TLS
                                what to do: check hub.port: 8883 is the port of MQTT over TLS; a proxy that answers in plain text is not possible
    ");
}

#[tokio::test]
async fn the_recorder_never_softens_the_verdict() {
    let authority = authority();
    for (config, good) in [
        (server(&authority, NAME, 2025, 2080), true),
        (server(&authority, "other.test", 2025, 2080), false),
        (server(&authority, NAME, 2021, 2022), false),
    ] {
        let found = findings(Some(config), &authority).await;
        assert_eq!(found.iter().all(|f| f.result == Verdict::Ok), good, "{found:?}");
    }
}
