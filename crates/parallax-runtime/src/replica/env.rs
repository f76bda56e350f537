//! The whole environment of an agent: nothing is inherited from the host.

use std::collections::BTreeMap;
use std::path::Path;

use super::record::Assignment;
use crate::layout::ReplicaDir;

/// What of the host goes into an agent's environment.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings<'a> {
    /// `PATH`: the toolchain's folders and the system's.
    pub(crate) path: &'a str,
    pub(crate) time_zone: Option<&'a str>,
    /// Whether there is a file with certificates.
    pub(crate) has_ca: bool,
    /// The port of the HTTP probe.
    pub(crate) port: Option<u16>,
    /// What the plan says.
    pub(crate) plan: &'a BTreeMap<String, String>,
}

/// The environment of a replica: the plan's, then the spec's, then the host's own words, which
/// nobody overrides.
pub(crate) fn environment(
    assignment: &Assignment,
    dir: &ReplicaDir,
    around: &Surroundings<'_>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("PATH".to_owned(), around.path.to_owned()),
    ]);
    if let Some(zone) = around.time_zone {
        env.insert("TZ".to_owned(), zone.to_owned());
    }
    env.extend(around.plan.clone());
    env.extend(assignment.spec.env.clone());
    let mut own = |name: &str, value: String| env.insert(name.to_owned(), value);
    own("HOME", text(&dir.home()));
    own("TMPDIR", text(&dir.tmp()));
    own("PARALLAX_URL", assignment.server_url.clone());
    own("PARALLAX_TOKEN_FILE", text(&dir.token()));
    if around.has_ca {
        own("PARALLAX_CA_FILE", text(&dir.ca()));
    }
    own(
        "PARALLAX_AGENT_NAME",
        assignment.agent_name.as_str().to_owned(),
    );
    own("PARALLAX_REPLICA_ID", assignment.replica.to_string());
    own("PARALLAX_REVISION", assignment.revision_number.to_string());
    own(
        "PARALLAX_STOP_GRACE_MS",
        assignment.stop_grace_ms.to_string(),
    );
    if let Some(port) = around.port {
        own("PORT", port.to_string());
    }
    env
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
