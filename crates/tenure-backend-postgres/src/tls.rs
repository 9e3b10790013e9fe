//! Whether a server has to speak TLS, and who it has to be.

use std::fmt;

use tenure_core::Result;

use crate::config::invalid;

#[cfg(not(feature = "tls"))]
pub(crate) type Connector = tokio_postgres::NoTls;
#[cfg(feature = "tls")]
pub(crate) type Connector = tokio_postgres_rustls::MakeRustlsConnect;

/// Whether a server has to speak TLS, and how it is spoken.
#[derive(Clone)]
pub(crate) enum Tls {
    /// It must not.
    Off,
    /// It may; who it is, is not looked at.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "needs a build with TLS"))]
    Preferred(Connector),
    /// It must.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "needs a build with TLS"))]
    Required(Connector),
}

impl Tls {
    /// What `sslmode` and `sslrootcert` say.
    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(mode: Option<&str>, _roots: Option<String>) -> Result<Self> {
        match mode {
            None | Some("disable" | "allow" | "prefer") => Ok(Self::Off),
            Some("require" | "verify-ca" | "verify-full") => Err(invalid(
                "this build has no TLS; it comes with the feature `postgres-tls` of `tenure`",
            )),
            Some(_) => Err(invalid(MODES)),
        }
    }

    /// What `sslmode` and `sslrootcert` say.
    #[cfg(feature = "tls")]
    pub(crate) fn new(mode: Option<&str>, roots: Option<String>) -> Result<Self> {
        use verify::{Check, connector};
        let roots = roots.as_deref();
        match (mode, roots) {
            (Some("disable" | "allow"), _) => Ok(Self::Off),
            (None | Some("prefer"), _) => Ok(Self::Preferred(connector(Check::Nothing, None)?)),
            // As libpq does: whoever names a root wants it looked at.
            (Some("require"), None) => Ok(Self::Required(connector(Check::Nothing, None)?)),
            (Some("require" | "verify-ca"), _) => {
                Ok(Self::Required(connector(Check::Issuer, roots)?))
            }
            (Some("verify-full"), _) => Ok(Self::Required(connector(Check::All, roots)?)),
            (Some(_), _) => Err(invalid(MODES)),
        }
    }
}

const MODES: &str = "`sslmode` is one of disable, allow, prefer, require, verify-ca, verify-full";

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tls::Off => "off",
            Tls::Preferred(_) => "preferred",
            Tls::Required(_) => "required",
        })
    }
}

#[cfg(feature = "tls")]
mod verify {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::CryptoProvider;
    use rustls::{
        CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
        SignatureScheme,
    };
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use tenure_core::Result;

    use super::Connector;
    use crate::config::invalid;

    /// What is looked at in a certificate.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) enum Check {
        /// Nothing: whoever answers is believed.
        Nothing,
        /// Who signed it.
        Issuer,
        /// Who signed it, and whether it is for this host.
        All,
    }

    pub(super) fn connector(check: Check, roots: Option<&str>) -> Result<Connector> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions of TLS");
        let config = match check {
            Check::All => builder.with_root_certificates(store(roots)?),
            Check::Issuer => {
                let whole = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(store(roots)?),
                    provider.clone(),
                );
                let whole =
                    whole.build().map_err(|_| invalid("`sslrootcert` holds no certificates"))?;
                lenient(builder, provider, Some(whole))
            }
            Check::Nothing => lenient(builder, provider, None),
        };
        Ok(Connector::new(config.with_no_client_auth()))
    }

    type Builder<S> = rustls::ConfigBuilder<ClientConfig, S>;

    fn lenient(
        builder: Builder<rustls::WantsVerifier>,
        provider: Arc<CryptoProvider>,
        issuer: Option<Arc<WebPkiServerVerifier>>,
    ) -> Builder<rustls::client::WantsClientCert> {
        let verifier = Arc::new(Lenient { provider, issuer });
        builder.dangerous().with_custom_certificate_verifier(verifier)
    }

    /// The roots of a file, or those of the web.
    fn store(file: Option<&str>) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        let Some(file) = file.filter(|file| *file != "system") else {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            return Ok(store);
        };
        let unreadable = || invalid("the file of `sslrootcert` holds no certificates in PEM");
        for certificate in CertificateDer::pem_file_iter(file).map_err(|_| unreadable())? {
            store.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
        }
        if store.is_empty() { Err(unreadable()) } else { Ok(store) }
    }

    /// Does not look for whom a certificate is, and by whom only if it is to.
    #[derive(Debug)]
    struct Lenient {
        provider: Arc<CryptoProvider>,
        issuer: Option<Arc<WebPkiServerVerifier>>,
    }

    impl ServerCertVerifier for Lenient {
        fn verify_server_cert(
            &self,
            certificate: &CertificateDer<'_>,
            others: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            let Some(issuer) = &self.issuer else {
                return Ok(ServerCertVerified::assertion());
            };
            match issuer.verify_server_cert(certificate, others, name, ocsp, now) {
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                verified => verified,
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let known = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signed, known)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let known = &self.provider.signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signed, known)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    }
}
