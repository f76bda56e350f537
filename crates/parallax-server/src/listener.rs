//! Where the server listens, and when it refuses to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A connection that has not sent a request by then is closed: slow or silent peers must not
/// hold a place.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a silent HTTP/2 peer is asked whether it is there, and how long it may take to say.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams that one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 1024;

/// Bytes that wait in one stream for a peer that does not read. What is sent in frames of at most
/// 1 MiB needs no more than this to keep a connection busy.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// A certificate chain and its key, as PEM files.
#[derive(Debug, Clone)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Whether a listener without TLS may be reached from other machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Plaintext {
    #[default]
    LoopbackOnly,
    /// Keys and tasks cross the network in clear; named so that nobody asks for it by accident.
    Insecure,
    /// A proxy in front terminates TLS.
    BehindProxy,
}

/// Why the server does not listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "refusing to listen on {address} without TLS: API keys would cross the network in clear; \
         pass --tls-cert and --tls-key, or --behind-proxy where a proxy terminates TLS, or --insecure-plaintext"
    )]
    Unprotected { address: SocketAddr },
    #[error("cannot listen on {address}: {}", hint(source))]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the certificate {} with the key {}", tls.cert.display(), tls.key.display())]
    Certificate {
        tls: Tls,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the listener failed")]
    Serve(#[source] io::Error),
}

fn hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use; stop the program that has it, or choose another with --listen (port 0: any)".to_owned()
        }
        io::ErrorKind::PermissionDenied => "not permitted; choose a port above 1023".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

/// A bound socket with what it takes to serve on it.
pub(crate) struct Bound {
    pub address: SocketAddr,
    socket: TcpListener,
    tls: Option<RustlsConfig>,
    pub handle: Handle<SocketAddr>,
}

impl Bound {
    /// As [`Self::new`]. Where any port will do, the `last` one is tried first; when somebody has
    /// it, or it may not be had any more, another one serves as well.
    pub(crate) fn preferring(
        last: Option<u16>,
        address: SocketAddr,
        tls: Option<&Tls>,
        plaintext: Plaintext,
    ) -> Result<Self, ListenError> {
        if let Some(port) = last.filter(|_| address.port() == 0) {
            let again = SocketAddr::new(address.ip(), port);
            match Self::new(again, tls, plaintext) {
                Err(ListenError::Bind { .. }) => {}
                bound_or_refused => return bound_or_refused,
            }
        }
        Self::new(address, tls, plaintext)
    }

    /// Binds, or says why not. Accepts nothing yet.
    pub(crate) fn new(
        address: SocketAddr,
        tls: Option<&Tls>,
        plaintext: Plaintext,
    ) -> Result<Self, ListenError> {
        if tls.is_none() && !address.ip().is_loopback() && plaintext == Plaintext::LoopbackOnly {
            return Err(ListenError::Unprotected { address });
        }
        let config = match tls {
            Some(tls) => Some(load(tls).map_err(|source| ListenError::Certificate {
                tls: tls.clone(),
                source,
            })?),
            None => None,
        };
        let bind = || -> io::Result<TcpListener> {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = bind().map_err(|source| ListenError::Bind { address, source })?;
        let address = socket
            .local_addr()
            .map_err(|source| ListenError::Bind { address, source })?;
        Ok(Self {
            address,
            socket,
            tls: config,
            handle: Handle::new(),
        })
    }

    /// The address by which a program on this machine reaches the listener.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("{scheme}://{}", SocketAddr::new(ip, self.address.port()))
    }

    /// Serves until the handle says stop.
    pub(crate) async fn serve(self, router: axum::Router) -> Result<(), ListenError> {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = match self.tls {
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor::new());
                let server = axum_server::from_tcp(self.socket).map_err(ListenError::Serve)?;
                let mut server = server.acceptor(acceptor);
                tune(server.http_builder());
                server
                    .first_request_timeout(FIRST_REQUEST_TIMEOUT)
                    .handle(self.handle)
                    .serve(service)
                    .await
            }
            None => {
                let server = axum_server::from_tcp(self.socket).map_err(ListenError::Serve)?;
                // Small frames must not wait for each other.
                let mut server = server.acceptor(NoDelayAcceptor::new());
                tune(server.http_builder());
                server
                    .first_request_timeout(FIRST_REQUEST_TIMEOUT)
                    .handle(self.handle)
                    .serve(service)
                    .await
            }
        };
        served.map_err(ListenError::Serve)
    }
}

fn tune(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder
        .http2()
        .timer(hyper_util::rt::TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // Extended CONNECT lets WebSockets cross the same connection.
        .enable_connect_protocol();
    builder.http1().timer(hyper_util::rt::TokioTimer::new());
}

fn load(tls: &Tls) -> Result<RustlsConfig, Box<dyn std::error::Error + Send + Sync>> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(&tls.cert)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_others_can_reach_needs_tls() {
        let open: SocketAddr = "0.0.0.0:0".parse().expect("an address");
        let refused = Bound::new(open, None, Plaintext::LoopbackOnly);
        assert!(matches!(refused, Err(ListenError::Unprotected { .. })));
        assert!(Bound::new(open, None, Plaintext::BehindProxy).is_ok());
    }

    #[test]
    fn any_port_means_the_last_one_unless_somebody_has_it() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let bind = |last| {
            let bound = Bound::preferring(last, any, None, Plaintext::LoopbackOnly);
            bound.expect("some port is free")
        };
        let first = bind(None);
        let port = first.address.port();
        assert_ne!(bind(Some(port)).address.port(), port);
        drop(first);
        assert_eq!(bind(Some(port)).address.port(), port);
    }

    #[test]
    fn a_port_in_use_is_named_with_a_way_out() {
        let first = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = first.local_addr().expect("it is bound");
        let Err(error) = Bound::new(address, None, Plaintext::LoopbackOnly) else {
            panic!("bound twice")
        };
        assert!(error.to_string().contains("the port is in use"), "{error}");
    }
}
