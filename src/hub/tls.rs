//! TLS towards the hub: rustls with ring, TLS 1.2 and 1.3, full checks of chain, name and dates; there is no switch to
//! turn them off. Trusted are the machine's store, the two roots IoT Hub uses (bundled, see `roots/README.md`) and the
//! certificates of `hub.ca_file`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tracing::{debug, warn};

const BUNDLED: [&[u8]; 2] =
    [include_bytes!("roots/digicert-global-root-g2.pem"), include_bytes!("roots/microsoft-rsa-root-2017.pem")];

/// The agent talks to one server; the default of 256 remembered sessions is memory for nothing.
const SESSIONS: usize = 2;

/// Why there is no TLS configuration.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The extra CA file cannot be read.
    #[error("cannot read the CA file {path}: {source}; check hub.ca_file and the file's permissions")]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The extra CA file is not PEM, or a certificate in it cannot be used.
    #[error("the CA file {path} is unusable: {why}; it must hold PEM certificates (-----BEGIN CERTIFICATE-----)")]
    CaContent {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The TLS library refused the combination.
    #[error("cannot set up TLS: {0}")]
    Library(#[from] rustls::Error),
}

/// How many trusted roots came from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootCounts {
    /// From the machine's store.
    pub native: usize,
    /// Built into the program.
    pub bundled: usize,
    /// From `hub.ca_file`.
    pub file: usize,
    /// What went wrong with the machine's store; a warning each.
    pub native_problems: Vec<String>,
}

/// The configuration for connections to the hub or gateway. A missing or empty machine store is a warning in the log.
///
/// # Errors
/// Names the CA file and what is wrong with it.
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let (roots, counts) = trusted_roots(ca_file)?;
    for problem in &counts.native_problems {
        warn!(problem, "certificate store of the machine");
    }
    debug!(native = counts.native, bundled = counts.bundled, file = counts.file, "trusted roots");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

/// The roots that [`client_config`] trusts, and where they came from.
///
/// # Errors
/// Names the CA file and what is wrong with it.
pub fn trusted_roots(ca_file: Option<&Path>) -> Result<(RootCertStore, RootCounts), TlsError> {
    let mut roots = RootCertStore::empty();
    let mut counts = RootCounts::default();
    let native = rustls_native_certs::load_native_certs();
    counts.native_problems = native.errors.iter().map(ToString::to_string).collect();
    counts.native = roots.add_parsable_certificates(native.certs).0;
    if counts.native == 0 {
        counts.native_problems.push("no certificate in it; only the bundled roots and hub.ca_file are trusted".into());
    }
    for certificate in BUNDLED.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)).flatten() {
        counts.bundled += roots.add_parsable_certificates([certificate]).0;
    }
    if let Some(path) = ca_file {
        counts.file = add_file(&mut roots, path)?;
    }
    Ok((roots, counts))
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<usize, TlsError> {
    let unusable = |why: String| TlsError::CaContent { path: path.to_owned(), why };
    let content = std::fs::read(path).map_err(|source| TlsError::CaFile { path: path.to_owned(), source })?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&content) {
        let certificate = certificate.map_err(|e: pem::Error| unusable(e.to_string()))?;
        count += 1;
        roots.add(certificate).map_err(|e| unusable(format!("certificate {count}: {e}")))?;
    }
    if count == 0 {
        return Err(unusable("no certificate in it".into()));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha2::{Digest, Sha256};

    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn the_bundled_roots_are_those_of_the_readme() {
        let readme = include_str!("roots/README.md");
        for pem in BUNDLED {
            let certificate = CertificateDer::from_pem_slice(pem).unwrap();
            let hex: Vec<_> = Sha256::digest(&certificate).iter().map(|b| format!("{b:02X}")).collect();
            assert!(readme.contains(&hex.concat()), "{hex:?}");
        }
    }

    #[test]
    fn roots_are_counted_by_origin() {
        let (_, counts) = trusted_roots(None).unwrap();
        assert_eq!((counts.bundled, counts.file), (2, 0));
        let both = file(&BUNDLED.concat());
        let (_, counts) = trusted_roots(Some(both.path())).unwrap();
        assert_eq!((counts.bundled, counts.file), (2, 2));
    }

    #[test]
    fn a_bad_ca_file_is_named() {
        let missing = Path::new("/nonexistent/ca.pem");
        let error = client_config(Some(missing)).unwrap_err();
        assert!(matches!(error, TlsError::CaFile { .. }));
        assert!(error.to_string().contains("/nonexistent/ca.pem"));
        for content in [
            &b""[..],
            b"hello",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        ] {
            let file = file(content);
            let error = client_config(Some(file.path())).unwrap_err();
            assert!(matches!(error, TlsError::CaContent { .. }), "{error}");
            assert!(error.to_string().contains(file.path().to_str().unwrap()));
        }
    }
}
