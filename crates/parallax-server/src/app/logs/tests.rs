use parallax_proto::v1::host_down::Frame;

use super::*;
use crate::testing::{HostDouble, World};

fn record(source: &str, seq: u64) -> v1::LogRecord {
    v1::LogRecord {
        source_id: source.to_owned(),
        incarnation: 1,
        seq,
        ..v1::LogRecord::default()
    }
}

/// The next stream that the host is asked for.
fn asked(host: &mut HostDouble) -> v1::LogRequest {
    loop {
        let down = host.frames.try_recv().expect("a frame is there");
        if let Some(Frame::LogRequest(request)) = down.expect("no status").frame {
            return request;
        }
    }
}

async fn following(world: &World) -> LogFeed {
    let query = LogQuery {
        follow: true,
        tail: Some(5),
        ..LogQuery::default()
    };
    let feed = world.app.agent_logs(&world.admin, "scorer", &query).await;
    feed.expect("an administrator may read")
}

async fn next(feed: &mut LogFeed) -> String {
    match feed.next().await.expect("a reader that follows has no end") {
        LogItem::Record(record) => record.seq.to_string(),
        LogItem::Unavailable { message, .. } => message,
    }
}

#[tokio::test]
async fn a_reader_that_follows_goes_on_where_it_was_when_the_host_is_back() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("succeeded", "").await;
    world.reconcile(&agent).await;
    let mut feed = following(&world).await;
    let first = asked(&mut host);
    assert_eq!(first.tail, Some(5));
    let streams = &world.app.hosts.log_streams;
    let stream = streams.open(&first.stream_id, host.id).expect("it waits");
    let records = [1, 2].map(|seq| record(&first.source_id, seq)).to_vec();
    stream.send(LogFrame::Records(records)).await.expect("read");
    drop(stream);
    let read = [next(&mut feed).await, next(&mut feed).await];
    assert_eq!(read, ["1", "2"]);
    assert_eq!(next(&mut feed).await, "the host closed the log stream");
    let asking = async {
        // The next item comes only once the host was asked again.
        next(&mut feed).await
    };
    let answering = async {
        let again = loop {
            tokio::task::yield_now().await;
            let down = host.frames.recv().await.expect("the connection is open");
            if let Some(Frame::LogRequest(request)) = down.expect("no status").frame {
                break request;
            }
        };
        let stream = streams.open(&again.stream_id, host.id).expect("it waits");
        let records = vec![record(&again.source_id, 3)];
        stream.send(LogFrame::Records(records)).await.expect("read");
        (again, stream)
    };
    let (third, (again, _stream)) = tokio::join!(asking, answering);
    assert_eq!(third, "3");
    assert_eq!((again.after_incarnation, again.after_seq), (1, 2));
    assert_eq!(again.tail, None, "it goes on, and does not begin anew");
}

#[tokio::test]
async fn a_host_that_stays_away_is_named_once() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    let agent = world.deploy(b"one", 1).await;
    world.reconcile(&agent).await;
    host.build("succeeded", "").await;
    world.reconcile(&agent).await;
    world.app.hosts.leave(&host.connection);
    let mut feed = following(&world).await;
    assert!(next(&mut feed).await.contains("host"));
    let patience = 2 * LOOK_EVERY + LOOK_EVERY / 2;
    let more = tokio::time::timeout(patience, next(&mut feed)).await;
    assert!(more.is_err(), "{more:?}");
}
