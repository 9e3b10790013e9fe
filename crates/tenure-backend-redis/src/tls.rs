//! Certificates: which servers are trusted, and what is shown to them.

use redis::{ConnectionAddr, ConnectionInfo};
use tenure_core::{Error, Result};

use crate::config::invalid;

/// Files in PEM format that an address names.
#[derive(Default, Debug)]
pub(crate) struct Files {
    /// Who has signed for the server; without it, those whom the web trusts.
    pub(crate) ca: Option<String>,
    /// Who we are, and the key to prove it.
    pub(crate) cert: Option<String>,
    pub(crate) key: Option<String>,
}

impl Files {
    /// The same server, trusted by these files, if it is reached over TLS.
    pub(crate) fn trusted_by(&self, info: ConnectionInfo) -> Result<ConnectionInfo> {
        match info.addr() {
            ConnectionAddr::TcpTls { .. } => self.over_tls(info),
            _ if self.ca.is_none() && self.cert.is_none() && self.key.is_none() => Ok(info),
            _ => Err(invalid("certificates are for `rediss://`")),
        }
    }

    #[cfg(feature = "tls")]
    fn over_tls(&self, info: ConnectionInfo) -> Result<ConnectionInfo> {
        use redis::{Client, ClientTlsConfig, TlsCertificates};
        use rustls::pki_types::{CertificateDer, pem::PemObject};

        // Which one is used is not left to the features that other crates of the program turn on.
        // If the program has chosen one, it stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = |what: &str, file: &Option<String>| {
            let read = |path: &String| {
                std::fs::read(path)
                    .map_err(|error| invalid(&format!("`{what}` cannot be read: {error}")))
            };
            file.as_ref().map(read).transpose()
        };
        let client_tls = match (read("cert", &self.cert)?, read("key", &self.key)?) {
            (Some(client_cert), Some(client_key)) => {
                Some(ClientTlsConfig { client_cert, client_key })
            }
            (None, None) => None,
            _ => return Err(invalid("`cert` and `key` belong together")),
        };
        let root_cert = read("ca", &self.ca)?;
        let is_empty = |pem: &Vec<u8>| CertificateDer::pem_slice_iter(pem).next().is_none();
        if root_cert.as_ref().is_some_and(is_empty) {
            return Err(invalid("`ca` has no certificate in it"));
        }
        let certificates = TlsCertificates { client_tls, root_cert };
        let client = Client::build_with_tls(info, certificates)
            .map_err(|error| invalid(&format!("a certificate is not understood: {error}")))?;
        Ok(client.get_connection_info().clone())
    }

    #[cfg(not(feature = "tls"))]
    fn over_tls(&self, _: ConnectionInfo) -> Result<ConnectionInfo> {
        Err(missing())
    }
}

/// What `rediss://` and its kin are answered by a build without TLS.
pub(crate) fn missing() -> Error {
    invalid("this build has no TLS; it comes with the feature `redis-tls` of `tenure`")
}
