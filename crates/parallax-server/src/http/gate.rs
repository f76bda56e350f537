//! What every handler has at hand.

use std::sync::Arc;

use super::metrics::Metrics;
use crate::app::App;

/// The application and the meters of this port.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) app: Arc<App>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Gate {
    pub(crate) fn new(app: &Arc<App>) -> Self {
        Self {
            app: Arc::clone(app),
            metrics: Arc::new(Metrics::new()),
        }
    }
}
