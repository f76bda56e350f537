//! Downloading a source archive: resumed where it broke off, checked by its digest, kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parallax_proto::v1::GetArtifactRequest;
use parallax_proto::v1::host_service_client::HostServiceClient;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::collect::touch;
use super::record::BuildRecord;
use crate::error::{HostError, blocking};
use crate::layout::Layout;

/// A control plane that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) channel: Channel,
    /// `Bearer …`, marked as sensitive.
    pub(crate) authorization: MetadataValue<Ascii>,
}

impl Connection {
    /// A request with this connection's credential.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.authorization.clone());
        request
    }

    /// A client with room for the largest frames of the contract.
    pub(crate) fn client(&self) -> HostServiceClient<Channel> {
        HostServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// Desired state of a full host with its certificates stays far below.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// How long the server may keep silent in the middle of an archive.
const CHUNK_DEADLINE: Duration = Duration::from_secs(30);
/// Between attempts.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the control plane does not give the source: {}", .0.message())]
    Refused(Status),
    #[error("the source that was received is not {digest}; deploy it again")]
    Digest { digest: String },
    #[error("the source is larger than the {bytes} bytes that were announced")]
    TooLarge { bytes: u64 },
    #[error("the source cannot be kept")]
    Host(#[from] HostError),
}

/// The archive of a build, on this disk. Waits for the control plane as long as its caller does.
///
/// # Errors
/// When the control plane refuses, or the archive is not what was announced.
pub(crate) async fn fetch(
    layout: &Layout,
    record: &BuildRecord,
    connections: &mut watch::Receiver<Option<Connection>>,
) -> Result<PathBuf, FetchError> {
    let name = record.source_digest.replace(':', "-");
    let path = layout.artifacts().join(&name);
    if path.exists() {
        // Its name was given after its digest was checked.
        touch(&path);
        return Ok(path);
    }
    let part = layout
        .artifacts()
        .join(format!("{name}.{}.part", record.build));
    loop {
        let connection = connections
            .wait_for(Option::is_some)
            .await
            .map_err(|_| HostError::ShuttingDown)?
            .clone()
            .expect("it was waited for");
        match download(&connection, record, &part).await {
            Ok(()) => break,
            Err(Attempt::Fatal(error)) => return Err(error),
            Err(Attempt::Again(status)) => {
                tracing::debug!(build = %record.build, %status, "download interrupted");
                sleep(TRY_AGAIN).await;
            }
        }
    }
    let (digest, from, to) = (record.source_digest.clone(), part, path.clone());
    let matches = blocking(move || keep(&digest, &from, &to)).await?;
    if !matches {
        return Err(FetchError::Digest {
            digest: record.source_digest.clone(),
        });
    }
    Ok(path)
}

enum Attempt {
    Again(Status),
    Fatal(FetchError),
}

async fn download(
    connection: &Connection,
    record: &BuildRecord,
    part: &Path,
) -> Result<(), Attempt> {
    let fatal =
        |error: io::Error| Attempt::Fatal(FetchError::Host(HostError::io("write", part)(error)));
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(part)
        .map_err(fatal)?;
    let mut have = file.metadata().map_err(fatal)?.len();
    let request = connection.request(GetArtifactRequest {
        digest: record.source_digest.clone(),
        offset: have,
        tenant_id: record.tenant.to_string(),
    });
    let mut client = connection.client();
    let response = in_time(client.artifacts(request)).await.map_err(judge)?;
    let mut chunks = response.into_inner();
    while let Some(chunk) = in_time(chunks.message()).await.map_err(judge)? {
        have += chunk.data.len() as u64;
        if record.source_bytes > 0 && have > record.source_bytes {
            // What is there is not the beginning of what was announced.
            fs::remove_file(part).map_err(fatal)?;
            return Err(Attempt::Fatal(FetchError::TooLarge {
                bytes: record.source_bytes,
            }));
        }
        // A chunk goes to the page cache; the sync comes with the check of the digest.
        file.write_all(&chunk.data).map_err(fatal)?;
    }
    Ok(())
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(CHUNK_DEADLINE, answer)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("the control plane keeps silent")))
}

fn judge(status: Status) -> Attempt {
    match status.code() {
        Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::PermissionDenied
        | Code::DataLoss => Attempt::Fatal(FetchError::Refused(status)),
        _ => Attempt::Again(status),
    }
}

/// Gives a download its name if it is what it should be; removes it if not.
fn keep(digest: &str, part: &Path, path: &Path) -> Result<bool, HostError> {
    let mut file = File::open(part).map_err(HostError::io("open", part))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(HostError::io("read", part))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    let of_bytes = format!("sha256:{}", hex(&hash.finalize()));
    if of_bytes != digest {
        fs::remove_file(part).map_err(HostError::io("remove", part))?;
        return Ok(false);
    }
    file.sync_all().map_err(HostError::io("sync", part))?;
    fs::rename(part, path).map_err(HostError::io("rename", part))?;
    Ok(true)
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing into a text does not fail");
        text
    })
}
