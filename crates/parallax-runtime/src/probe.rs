//! The HTTP check of a replica.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use parallax_core::manifest::HttpProbe;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::task::Task;

/// A check that goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    result: watch::Receiver<Option<bool>>,
    _task: Task,
}

impl Probe {
    /// Asks on `port` as often as `probe` says.
    pub(crate) fn start(probe: HttpProbe, port: u16) -> Self {
        let (tell, result) = watch::channel(None);
        let task = Task::spawn(async move {
            let mut ticks = interval(Duration::from_millis(
                probe.interval_ms.max(MIN_INTERVAL_MS),
            ));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let patience = Duration::from_millis(probe.timeout_ms);
                let passed = timeout(patience, passes(port, &probe.http)).await;
                tell.send_replace(Some(passed.unwrap_or(false)));
            }
        });
        Self {
            result,
            _task: task,
        }
    }

    /// What the last check said; `None` before the first.
    pub(crate) fn result(&self) -> Option<bool> {
        *self.result.borrow()
    }

    /// Waits for the next check.
    pub(crate) async fn changed(&mut self) {
        if self.result.changed().await.is_err() {
            // The check ends only together with its owner.
            std::future::pending::<()>().await;
        }
    }
}

/// More often would be load, not a check.
const MIN_INTERVAL_MS: u64 = 100;

/// Whether a GET is answered with 2xx or 3xx.
async fn passes(port: u16, path: &str) -> bool {
    ask(port, path)
        .await
        .is_ok_and(|status| status.is_success() || status.is_redirection())
}

async fn ask(
    port: u16,
    path: &str,
) -> Result<hyper::StatusCode, Box<dyn std::error::Error + Send + Sync>> {
    let uri: Uri = path.parse()?;
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(uri)
        .header(hyper::header::HOST, format!("127.0.0.1:{port}"))
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    // Both run in this task, so that dropping the check drops the connection.
    let response = async { sender.send_request(request).await };
    tokio::pin!(connection, response);
    tokio::select! {
        response = &mut response => Ok(response?.status()),
        ended = &mut connection => {
            ended?;
            Ok(response.await?.status())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static str) -> (u16, Task) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let server = Task::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the probe connects");
            let mut request = [0; 512];
            let read = stream.read(&mut request).await.expect("the probe asks");
            assert!(request[..read].starts_with(b"GET /health?deep=1 HTTP/1.1\r\n"));
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("the probe listens");
        });
        (port, server)
    }

    #[tokio::test]
    async fn success_and_redirection_pass_and_errors_do_not() {
        let cases = [
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            (
                "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", false),
            ("garbage\r\n\r\n", false),
        ];
        for (answer, expected) in cases {
            let (port, _server) = answering(answer).await;
            assert_eq!(passes(port, "/health?deep=1").await, expected, "{answer}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_does_not_pass() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        drop(listener);
        assert!(!passes(port, "/").await);
    }
}
