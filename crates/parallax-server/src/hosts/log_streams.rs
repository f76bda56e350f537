//! Log streams: asked for by a reader, opened by a host, joined here by their id.

use std::collections::HashMap;

use parallax_core::id::HostId;
use parallax_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Batches that wait for a reader; the host sends no more until they are taken.
const BATCHES: usize = 16;

/// What a reader of logs receives.
#[derive(Debug)]
pub enum LogFrame {
    Records(Vec<v1::LogRecord>),
    /// Everything that exists was sent.
    End,
    /// The host cannot give the logs; they are not lost for that.
    Unavailable(String),
}

/// Streams that were asked for and are not over.
#[derive(Debug, Default)]
pub struct LogStreams {
    waiting: Mutex<HashMap<String, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    host: HostId,
    frames: mpsc::Sender<LogFrame>,
}

/// A reader's end.
#[derive(Debug)]
pub struct LogSubscription {
    pub stream_id: String,
    pub frames: mpsc::Receiver<LogFrame>,
}

impl LogStreams {
    /// Prepares a stream that `host` is about to be asked for.
    pub fn subscribe(&self, stream_id: String, host: HostId) -> LogSubscription {
        let (frames, receiver) = mpsc::channel(BATCHES);
        self.waiting
            .lock()
            .insert(stream_id.clone(), Waiting { host, frames });
        LogSubscription {
            stream_id,
            frames: receiver,
        }
    }

    /// The host opens the stream: only the one that was asked may, and only once.
    pub fn open(&self, stream_id: &str, host: HostId) -> Option<mpsc::Sender<LogFrame>> {
        let mut waiting = self.waiting.lock();
        if waiting.get(stream_id)?.host != host {
            return None;
        }
        waiting.remove(stream_id).map(|w| w.frames)
    }

    /// The host cannot open the stream.
    pub fn unavailable(&self, stream_id: &str, host: HostId, message: String) {
        if let Some(frames) = self.open(stream_id, host) {
            // The channel is empty, and a reader that left needs no answer.
            drop(frames.try_send(LogFrame::Unavailable(message)));
        }
    }

    /// The host went away: whoever waits for it is told.
    pub fn host_left(&self, host: HostId) {
        let mut waiting = self.waiting.lock();
        let ids: Vec<String> = waiting
            .iter()
            .filter(|(_, w)| w.host == host)
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            if let Some(w) = waiting.remove(&id) {
                drop(w.frames.try_send(LogFrame::Unavailable(
                    "the host with the logs went away".to_owned(),
                )));
            }
        }
    }

    /// The reader left before the host opened the stream.
    pub fn forget(&self, stream_id: &str) {
        self.waiting.lock().remove(stream_id);
    }
}
