//! Reaching the control plane and proving who the host is.

use std::fs;
use std::path::Path;
use std::time::Duration;

use parallax_proto::v1::{HostFacts, JoinRequest};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::talk::SessionError;
use crate::build::Connection;
use crate::config::{CredentialSource, HostConfig};
use crate::error::{HostError, blocking, chain};

/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it is still there, and how long it may take to
/// answer: a control plane that vanished is noticed within 20 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a join may take.
const JOIN_DEADLINE: Duration = Duration::from_secs(30);

/// Where distributions keep the certificates that the system trusts.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The address of the control plane, checked.
///
/// # Errors
/// When it is no address.
pub(crate) fn endpoint(config: &HostConfig) -> Result<Endpoint, HostError> {
    let wrong = |source| HostError::ServerUrl {
        url: config.server_url.clone(),
        source,
    };
    let endpoint = Endpoint::from_shared(config.server_url.clone())
        .map_err(wrong)?
        .connect_timeout(CONNECT_DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    if !config.server_url.starts_with("https:") {
        return Ok(endpoint);
    }
    let roots = config.ca_pem.clone().or_else(|| {
        // The first that exists, as TLS libraries do.
        SYSTEM_ROOTS.iter().find_map(|path| fs::read(path).ok())
    });
    let tls = roots.into_iter().fold(ClientTlsConfig::new(), |tls, pem| {
        tls.ca_certificate(Certificate::from_pem(pem))
    });
    endpoint.tls_config(tls).map_err(wrong)
}

/// Connects, joining first where that has not been done.
pub(super) async fn connect(
    config: &HostConfig,
    facts: &HostFacts,
) -> Result<Connection, SessionError> {
    let channel = endpoint(config)?.connect().await.map_err(unconnected)?;
    let credential = match &config.credential {
        CredentialSource::File(path) => read(path)?,
        CredentialSource::Join { token, keep_at } => {
            if keep_at.exists() {
                read(keep_at)?
            } else {
                join(config, facts, &channel, token, keep_at).await?
            }
        }
    };
    Ok(Connection {
        authorization: bearer(&credential)?,
        channel,
    })
}

/// rustls says so of a certificate that it does not accept; the error's type is hidden by the
/// layers above it.
fn unconnected(error: tonic::transport::Error) -> SessionError {
    match chain(&error).contains("invalid peer certificate") {
        true => SessionError::Untrusted(error),
        false => SessionError::Connect(error),
    }
}

async fn join(
    config: &HostConfig,
    facts: &HostFacts,
    channel: &Channel,
    token: &str,
    keep_at: &Path,
) -> Result<String, SessionError> {
    let connection = Connection {
        channel: channel.clone(),
        authorization: bearer(token)?,
    };
    let request = connection.request(JoinRequest {
        host_name: config.name.as_str().to_owned(),
        facts: Some(facts.clone()),
    });
    let mut client = connection.client();
    let answer = tokio::time::timeout(JOIN_DEADLINE, client.join(request))
        .await
        .map_err(|_| SessionError::Silent)?
        .map_err(SessionError::Join)?
        .into_inner();
    let (path, credential) = (keep_at.to_path_buf(), answer.credential.clone());
    blocking(move || keep(&path, &credential)).await?;
    tracing::info!(host = answer.host_id, "joined");
    Ok(answer.credential)
}

/// Keeps a credential in a 0600 file. What bought it, or came before it, is
/// worthless soon, so it must not be lost.
pub(super) fn keep(path: &Path, credential: &str) -> Result<(), HostError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let tmp = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&tmp)?;
        file.write_all(credential.as_bytes())?;
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        path.parent()
            .map_or(Ok(()), |dir| fs::File::open(dir)?.sync_all())
    };
    write().map_err(HostError::io("keep the credential in", path))
}

fn read(path: &Path) -> Result<String, SessionError> {
    let text = fs::read_to_string(path).map_err(|source| SessionError::Credential {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

fn bearer(credential: &str) -> Result<MetadataValue<Ascii>, SessionError> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {credential}")
        .parse()
        .map_err(|_| SessionError::CredentialText)?;
    value.set_sensitive(true);
    Ok(value)
}
