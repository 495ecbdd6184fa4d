//! The lab's certificate authority and the certificates its server can show.
//!
//! Keys are P-256: the hub shows an ECDSA chain too, to clients that want one. Like the hub's classic host name, the
//! lab speaks TLS 1.2 only, with the ECDHE AES-GCM suites.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rcgen::{KeyUsagePurpose, date_time_ymd};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{CipherSuite, ServerConfig};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

use super::LabError;

/// The certificate the server shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerCertificate {
    /// For the hub's name, `localhost` and 127.0.0.1, by the lab's authority.
    #[default]
    Good,
    /// Its time has passed.
    Expired,
    /// For `elsewhere.example` only.
    WrongName,
    /// By an authority that [`super::Lab::ca_pem`] does not hold.
    OtherAuthority,
}

/// An authority, and an acceptor for each [`ServerCertificate`].
pub(super) struct Certificates {
    /// The authority's certificate.
    pub ca_pem: String,
    good: TlsAcceptor,
    expired: TlsAcceptor,
    wrong_name: TlsAcceptor,
    other_authority: TlsAcceptor,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    /// Makes everything anew.
    ///
    /// # Errors
    /// `host` cannot stand in a certificate, or a key cannot be made.
    pub(super) fn make(host: &str) -> Result<Self, LabError> {
        let (authority, other) = (authority()?, authority()?);
        let names = [host, "localhost", "127.0.0.1", "::1"];
        Ok(Self {
            ca_pem: authority.pem(),
            good: server(&authority, &names, 4096)?,
            expired: server(&authority, &names, 2001)?,
            wrong_name: server(&authority, &["elsewhere.example"], 4096)?,
            other_authority: server(&other, &names, 4096)?,
        })
    }

    pub(super) fn acceptor(&self, which: ServerCertificate) -> TlsAcceptor {
        match which {
            ServerCertificate::Good => &self.good,
            ServerCertificate::Expired => &self.expired,
            ServerCertificate::WrongName => &self.wrong_name,
            ServerCertificate::OtherAuthority => &self.other_authority,
        }
        .clone()
    }
}

fn authority() -> Result<Authority, LabError> {
    let mut params = CertificateParams::new(Vec::new())?;
    // Clients look an issuer up by its name: two authorities of one name would be told apart by a bad signature only.
    let name = format!("Loopback IoT Hub test authority {}", uuid::Uuid::new_v4().simple());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn server(authority: &Authority, names: &[&str], last_year: i32) -> Result<TlsAcceptor, LabError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())?;
    if let Some(name) = names.first() {
        params.distinguished_name.push(DnType::CommonName, *name);
    }
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.signed_by(&key, authority)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| {
        matches!(
            suite.suite(),
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        )
    });
    provider
}
