//! The HTTP client of the span exporter.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

/// An HTTP client for the exporter's thread, which is outside the tokio runtime.
///
/// Requests run on the runtime. The exporter's thread waits for them.
#[derive(Debug)]
pub(crate) struct CollectorClient {
    http: reqwest::Client,
    runtime: Handle,
}

impl CollectorClient {
    /// Creates a client that trusts `authorities` in PEM, or the public ones without them.
    ///
    /// `timeout` limits each request. Must be called inside the runtime.
    ///
    /// # Errors
    /// Unusable certificates in `authorities`.
    pub(crate) fn new(authorities: Option<&[u8]>, timeout: Duration) -> anyhow::Result<Self> {
        let roots = match authorities {
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    roots
                        .add(certificate.context("invalid certificate authorities: not PEM certificates")?)?;
                }
                anyhow::ensure!(!roots.is_empty(), "invalid certificate authorities: no certificate found");
                roots
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            // Headers may contain a key, which must not reach another server.
            .redirect(reqwest::redirect::Policy::none())
            // The exporter decides which failures are retried.
            .retry(reqwest::retry::never())
            .timeout(timeout)
            .build()?;
        Ok(Self { http, runtime: Handle::current() })
    }
}

#[tonic::async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let http = self.http.clone();
        let sending = self.runtime.spawn(async move { http.send_bytes(request).await });
        AbortOnDropHandle::new(sending).await?
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    fn client() -> CollectorClient {
        CollectorClient::new(None, Duration::from_secs(5)).unwrap()
    }

    /// Sends a request from a thread outside the runtime and returns its result.
    async fn sent(client: CollectorClient, url: String) -> Result<Response<Bytes>, HttpError> {
        let (result, received) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let request = Request::post(url).body(Bytes::from_static(b"spans")).unwrap();
            result.send(futures::executor::block_on(client.send_bytes(request)))
        });
        received.await.unwrap()
    }

    #[tokio::test]
    async fn thread_outside_the_runtime_gets_a_response() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
        let sending = tokio::spawn(sent(client(), url));
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"spans") {
            connection.read_buf(&mut received).await.unwrap();
        }
        connection
            .write_all(b"HTTP/1.1 307 Elsewhere\r\nlocation: /there\r\ncontent-length: 2\r\n\r\nno")
            .await
            .unwrap();
        let response = sending.await.unwrap().unwrap();
        // A redirect is returned, not followed.
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (307, b"no".as_slice()));
        assert!(received.starts_with(b"POST /v1/traces HTTP/1.1\r\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn missing_response_is_an_error_after_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        assert!(sent(client(), url).await.is_err());
    }

    #[tokio::test]
    async fn invalid_authorities_are_rejected() {
        for pem in ["", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"] {
            assert!(CollectorClient::new(Some(pem.as_bytes()), Duration::from_secs(5)).is_err(), "{pem}");
        }
    }
}
