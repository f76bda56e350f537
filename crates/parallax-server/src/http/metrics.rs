//! Counters for Prometheus. Labels come from route templates and closed lists only.

use parallax_core::status::Phase;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Labels = [(&'static str, String); 3];

/// The meters of a port.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    instances: Gauge,
    waiting: Gauge,
    agents: Family<[(&'static str, &'static str); 1], Gauge>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("parallax");
        let (requests, instances, waiting, agents) = (
            Family::default(),
            Gauge::default(),
            Gauge::default(),
            Family::default(),
        );
        registry.register(
            "http_requests",
            "Requests by route, method and status",
            Family::clone(&requests),
        );
        registry.register(
            "agent_instances",
            "Agent instances with a lease",
            Gauge::clone(&instances),
        );
        registry.register(
            "calls_waiting",
            "Calls that wait for an instance with credit",
            Gauge::clone(&waiting),
        );
        registry.register("agents", "Hosted agents by phase", Family::clone(&agents));
        Self {
            registry,
            requests,
            instances,
            waiting,
            agents,
        }
    }

    pub(crate) fn answered(&self, route: &str, method: &str, status: u16) {
        let labels = [
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("status", status.to_string()),
        ];
        self.requests.get_or_create(&labels).inc();
    }

    /// The text of a scrape.
    pub(crate) fn text(
        &self,
        totals: (usize, usize),
        phases: impl Iterator<Item = Phase>,
    ) -> String {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.instances.set(number(totals.0));
        self.waiting.set(number(totals.1));
        for phase in Phase::ALL {
            self.agents
                .get_or_create(&[("phase", phase.as_str())])
                .set(0);
        }
        for phase in phases {
            self.agents
                .get_or_create(&[("phase", phase.as_str())])
                .inc();
        }
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}
