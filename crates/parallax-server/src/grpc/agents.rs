//! `AgentService`: where agents join.

use std::sync::Arc;

use parallax_core::key::Scope;
use parallax_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::adapters::Map;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::session;
use crate::app::App;
use crate::auth;
use crate::dispatch::MAX_CREDIT;

/// Frames that may wait for an agent to read them: its credit, as many acknowledgements, and some
/// pings. A session that is this far behind is cut off.
const OUTBOUND_FRAMES: usize = 2 * MAX_CREDIT as usize + 64;

pub(crate) struct AgentGateway {
    app: Arc<App>,
}

impl AgentGateway {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self { app }
    }
}

type Frame = Result<Box<v1::AgentDown>, Status>;

#[tonic::async_trait]
impl v1::agent_service_server::AgentService for AgentGateway {
    type SessionStream = Map<ReceiverStream<Frame>, fn(Frame) -> Result<v1::AgentDown, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::AgentUp>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let principal = super::principal(&request)?;
        auth::require(&principal, Scope::Agent).map_err(|e| super::status(&e))?;
        let Ok(handshake) = Arc::clone(&self.app.handshakes).try_acquire_owned() else {
            return Err(busy());
        };
        let (frames, outbound) = mpsc::channel(OUTBOUND_FRAMES);
        let app = Arc::clone(&self.app);
        let inbound = request.into_inner();
        self.app
            .tasks
            .spawn(session::run(app, principal, inbound, frames, handshake));
        let outbound = ReceiverStream::new(outbound);
        Ok(Response::new(outbound.map(|frame| frame.map(|down| *down))))
    }
}

/// Too many handshakes at once, as after a restart: try again, spread out.
fn busy() -> Status {
    let mut status = Status::unavailable("many agents are connecting; try again shortly");
    let delay = 200 + u64::from(crate::clock::random::<1>()[0]) * 8;
    status.metadata_mut().insert("retry-after-ms", delay.into());
    status
}
