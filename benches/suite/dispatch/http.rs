//! The same calls over HTTP/1.1, one at a time on each connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::wire::{AGENT, CAPABILITY, INPUT, Target};

const CONNECTIONS: usize = 64;
const WARM: Duration = Duration::from_millis(300);
const SPAN: Duration = Duration::from_millis(1000);

/// Calls answered in one second.
pub(super) async fn throughput(target: &Target) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let path = format!("/api/agents/{AGENT}/invoke");
    let body = format!(r#"{{"capability":"{CAPABILITY}","input":{INPUT}}}"#);
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = connect(target).await?;
        let (target, path, body) = (target.clone(), path.clone(), Bytes::from(body.clone()));
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                send(&mut connection, &target, &path, body.clone()).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    tokio::time::sleep(WARM).await;
    let (started, before) = (Instant::now(), done.load(Ordering::Relaxed));
    tokio::time::sleep(SPAN).await;
    let counted = done.load(Ordering::Relaxed) - before;
    let rate = counted as f64 / started.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller panicked")??;
    }
    Ok(rate)
}

/// Sends one document and returns the answer.
pub(super) async fn post(target: &Target, path: &str, body: String) -> Result<Bytes> {
    let mut connection = connect(target).await?;
    send(&mut connection, target, path, Bytes::from(body)).await
}

/// A connection, which closes when it is dropped.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

async fn connect(target: &Target) -> Result<Connection> {
    let stream = TcpStream::connect(target.authority()).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Whoever waits for an answer learns of the connection's end.
    let mut driver = JoinSet::new();
    driver.spawn(async move { drop(connection.await) });
    Ok(Connection {
        sender,
        _driver: driver,
    })
}

async fn send(
    connection: &mut Connection,
    target: &Target,
    path: &str,
    body: Bytes,
) -> Result<Bytes> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, target.authority())
        .header(header::AUTHORIZATION, target.bearer())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    connection.sender.ready().await?;
    let response = connection.sender.send_request(request).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!(
            "POST {path}: {status}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(answer)
}
