//! TCP connections that a case can cut or freeze, as failing networks do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// A connection that ends without a word once its token is cancelled: no GOAWAY, no status.
pub(super) struct Cuttable {
    inner: TcpStream,
    scissors: Scissors,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cuttable {
    pub(super) fn new(inner: TcpStream, cut: CancellationToken) -> Self {
        let scissors = Scissors {
            cut: cut.clone(),
            frozen: Arc::default(),
        };
        Self {
            inner,
            scissors,
            cut: Box::pin(cut.cancelled_owned()),
        }
    }

    fn severed(&mut self, cx: &mut Context<'_>) -> bool {
        self.cut.as_mut().poll(cx).is_ready()
    }
}

/// What a request's extensions carry: the means to break the connection that it came by.
#[derive(Clone)]
pub(super) struct Scissors {
    cut: CancellationToken,
    frozen: Arc<AtomicBool>,
}

impl Scissors {
    /// Ends the connection.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Lets nothing through any more, in either direction, and keeps the connection open.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::Relaxed);
    }

    fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
    }
}

impl Connected for Cuttable {
    type ConnectInfo = Scissors;

    fn connect_info(&self) -> Scissors {
        self.scissors.clone()
    }
}

fn cut_error() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the case cut the connection",
    )
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.severed(cx) {
            return Poll::Ready(Err(cut_error()));
        }
        if self.scissors.is_frozen() {
            return Poll::Pending; // Woken by nothing but the cut.
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.severed(cx) {
            return Poll::Ready(Err(cut_error()));
        }
        if self.scissors.is_frozen() {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
