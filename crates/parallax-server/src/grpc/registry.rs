//! `RegistryService`: who is connected.

use std::sync::Arc;

use parallax_proto::v1;
use parallax_proto::v1::registry_event::Event;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::app::App;
use crate::app::registry::RegistryNews;
use crate::clock::Clock;
use crate::dispatch::InstanceView;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 500;
/// Changes that wait for a watcher; behind it there is a resync.
const OUTBOUND: usize = 64;

pub(crate) struct RegistryGateway {
    app: Arc<App>,
}

impl RegistryGateway {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

#[tonic::async_trait]
impl v1::registry_service_server::RegistryService for RegistryGateway {
    type WatchStream = ReceiverStream<Result<v1::RegistryEvent, Status>>;

    async fn list(
        &self,
        request: Request<v1::ListRegistryRequest>,
    ) -> Result<Response<v1::ListRegistryResponse>, Status> {
        let principal = super::principal(&request)?;
        let body = request.into_inner();
        let capability = Some(body.capability.as_str()).filter(|c| !c.is_empty());
        let cursor = Some(body.cursor.as_str()).filter(|c| !c.is_empty());
        let limit = match body.limit as usize {
            0 => DEFAULT_LIMIT,
            n => n.min(MAX_LIMIT),
        };
        let page = self
            .app
            .list_registry(&principal, capability, cursor, limit)
            .map_err(|e| super::status(&e))?;
        let entries = page.views.iter().map(|view| entry(view, &self.app.clock));
        Ok(Response::new(v1::ListRegistryResponse {
            entries: entries.collect(),
            next_cursor: page.next_cursor.unwrap_or_default(),
        }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRegistryRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let principal = super::principal(&request)?;
        let mut watch = self
            .app
            .watch_registry(&principal)
            .map_err(|e| super::status(&e))?;
        let (down, outbound) = mpsc::channel(OUTBOUND);
        let app = Arc::clone(&self.app);
        self.app.tasks.spawn(async move {
            let send = |event| down.send(Ok(v1::RegistryEvent { event: Some(event) }));
            let ended = app.stream_end(&principal);
            tokio::pin!(ended);
            let mut whole = true;
            loop {
                if std::mem::take(&mut whole) {
                    let Ok(views) = app.registry(&principal, None) else {
                        return;
                    };
                    for view in &views {
                        if send(Event::Upserted(entry(view, &app.clock)))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    if send(Event::Synced(true)).await.is_err() {
                        return;
                    }
                }
                let news = tokio::select! {
                    news = watch.next() => news,
                    () = down.closed() => return,
                    error = &mut ended => return drop(down.send(Err(super::status(&error))).await),
                };
                let event = match news {
                    RegistryNews::Closed => return,
                    RegistryNews::Resync => {
                        whole = true;
                        Event::Resync(true)
                    }
                    RegistryNews::Changed(change) => {
                        let found = app.registry(&principal, None).ok().and_then(|views| {
                            views
                                .into_iter()
                                .find(|v| v.peer.uuid == change.instance_uuid)
                        });
                        match found {
                            Some(view) => Event::Upserted(entry(&view, &app.clock)),
                            None => Event::Removed(v1::RegistryRemoved {
                                instance_uuid: change.instance_uuid,
                                agent_name: change.agent.to_string(),
                            }),
                        }
                    }
                };
                if send(event).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

/// What the registry shows of an instance.
pub(crate) fn entry(view: &InstanceView, clock: &Clock) -> v1::RegistryEntry {
    let peer = &view.peer;
    v1::RegistryEntry {
        agent_name: view.agent_name.clone(),
        agent_id: peer
            .hosted
            .map(|(agent, _)| agent.to_string())
            .unwrap_or_default(),
        replica_id: peer
            .hosted
            .map(|(_, replica)| replica.to_string())
            .unwrap_or_default(),
        instance_uuid: peer.uuid.clone(),
        capabilities: peer
            .capabilities
            .iter()
            .cloned()
            .map(v1::Capability::from)
            .collect(),
        labels: peer.labels.clone().into_iter().collect(),
        sdk: Some(peer.sdk.clone().into()),
        lease_epoch: view.lease_epoch,
        state: view.state.as_str().to_owned(),
        connected_unix_us: view.connected_at.unix_micros(),
        lease_until_unix_us: clock.now().plus(view.lease_left).unix_micros(),
        inflight: view.in_flight,
        credit: view.credit,
        load_ppm: view.load_ppm,
    }
}
