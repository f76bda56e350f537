//! Sending a log to the control plane: under its credit, across incarnations, as it grows.

mod cursor;

use std::time::Duration;

use parallax_proto::v1::{LogBatch, LogDown, LogRecord, LogRequest, LogUp, log_up};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::build::Connection;
use crate::error::{HostError, blocking};
use crate::hub::{Command, LogSource};
use cursor::Cursor;

/// Batches that may wait for the network.
const UP_QUEUE: usize = 4;
/// How long the control plane may take to answer the opening of a stream.
const OPEN_DEADLINE: Duration = Duration::from_secs(15);
/// How long a reader may take for the last batches.
const CLOSE_DEADLINE: Duration = Duration::from_secs(30);
/// A log that is followed is looked at this often even when nothing announces a change.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Why a log stream cannot be opened or finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("this host has no log of {source_id}")]
    Unknown { source_id: String },
    #[error("the log stream broke off: {}", .0.message())]
    Stream(Status),
    #[error("the log cannot be read")]
    Read(#[from] HostError),
}

/// Serves one request: opens the stream and sends until the end, or until it is aborted.
///
/// # Errors
/// When the source is unknown, the log cannot be read, or the stream breaks.
pub(crate) async fn serve(
    hub: &mpsc::Sender<Command>,
    connection: &Connection,
    request: LogRequest,
) -> Result<(), LogError> {
    let source = find(hub, &request).await?;
    let (up, frames) = mpsc::channel(UP_QUEUE);
    let opening = LogUp {
        frame: Some(log_up::Frame::StreamId(request.stream_id.clone())),
    };
    up.try_send(opening).expect("the queue is empty");
    let mut client = connection.client();
    let answer = client.logs(connection.request(ReceiverStream::new(frames)));
    let down = timeout(OPEN_DEADLINE, answer)
        .await
        .map_err(|_| LogError::Stream(Status::deadline_exceeded("no answer")))?
        .map_err(LogError::Stream)?
        .into_inner();
    let (dir, wanted) = (source.dir.clone(), request.clone());
    let cursor = blocking(move || Cursor::open(dir, &wanted)).await?;
    let mut sender = Sender {
        request,
        up,
        down,
        credit: 0,
    };
    sender.send_all(source, cursor).await?;
    sender.close().await;
    Ok(())
}

async fn find(hub: &mpsc::Sender<Command>, request: &LogRequest) -> Result<LogSource, LogError> {
    let (found, answer) = oneshot::channel();
    let command = Command::FindLog {
        source: request.source_id.clone(),
        tenant: request.tenant_id.clone(),
        found,
    };
    let unknown = || LogError::Unknown {
        source_id: request.source_id.clone(),
    };
    hub.send(command)
        .await
        .map_err(|_| HostError::ShuttingDown)?;
    answer
        .await
        .map_err(|_| HostError::ShuttingDown)?
        .ok_or_else(unknown)
}

struct Sender {
    request: LogRequest,
    up: mpsc::Sender<LogUp>,
    down: Streaming<LogDown>,
    /// Bytes of lines that may still be sent.
    credit: u64,
}

impl Sender {
    /// Lets the other side read to the end: a stream that is dropped takes with it what has not
    /// reached the network yet.
    async fn close(self) {
        let Self { up, mut down, .. } = self;
        drop(up);
        let drained = async { while let Ok(Some(_)) = down.message().await {} };
        // A reader that does not close its side has had its time.
        let _ = timeout(CLOSE_DEADLINE, drained).await;
    }

    async fn send_all(
        &mut self,
        mut source: LogSource,
        mut cursor: Cursor,
    ) -> Result<(), LogError> {
        let source_id = self.request.source_id.clone();
        loop {
            // Marked before reading: what comes during the reading is a change to wait for.
            let over = source.tip.borrow_and_update().over;
            let id = source_id.clone();
            let (next, batch) = blocking(move || {
                let batch = cursor.read(&id)?;
                Ok((cursor, batch))
            })
            .await?;
            cursor = next;
            if !batch.is_empty() {
                self.send_batch(batch).await?;
                continue;
            }
            if over || !self.request.follow {
                return self.send(log_up::Frame::End(true)).await;
            }
            if !self.wait_for_more(&mut source).await? {
                return self.send(log_up::Frame::End(true)).await;
            }
        }
    }

    /// False when nothing will follow.
    async fn wait_for_more(&mut self, source: &mut LogSource) -> Result<bool, LogError> {
        tokio::select! {
            changed = source.tip.changed() => Ok(changed.is_ok()),
            () = tokio::time::sleep(LOOK_AGAIN) => Ok(true),
            granted = self.down.message() => {
                self.take_credit(granted)?;
                Ok(true)
            }
        }
    }

    /// Sends records as far as the credit goes, and waits for more credit for the others.
    async fn send_batch(&mut self, mut records: Vec<LogRecord>) -> Result<(), LogError> {
        while !records.is_empty() {
            let mut left = self.credit;
            let fitting = records
                .iter()
                .take_while(|record| {
                    let bytes = record.line.len() as u64;
                    let fits = bytes <= left;
                    left = left.saturating_sub(bytes);
                    fits
                })
                .count();
            if fitting == 0 {
                let granted = self.down.message().await;
                self.take_credit(granted)?;
                continue;
            }
            let rest = records.split_off(fitting);
            let sent = std::mem::replace(&mut records, rest);
            let bytes: u64 = sent.iter().map(|record| record.line.len() as u64).sum();
            self.credit -= bytes;
            self.send(log_up::Frame::Batch(LogBatch { records: sent }))
                .await?;
        }
        Ok(())
    }

    fn take_credit(&mut self, granted: Result<Option<LogDown>, Status>) -> Result<(), LogError> {
        match granted.map_err(LogError::Stream)? {
            Some(down) => {
                self.credit = self.credit.saturating_add(down.credit_bytes);
                Ok(())
            }
            None => Err(LogError::Stream(Status::cancelled("nobody reads any more"))),
        }
    }

    async fn send(&self, frame: log_up::Frame) -> Result<(), LogError> {
        let sent = self.up.send(LogUp { frame: Some(frame) }).await;
        sent.map_err(|_| LogError::Stream(Status::cancelled("nobody reads any more")))
    }
}
