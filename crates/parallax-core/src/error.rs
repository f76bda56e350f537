//! The one domain error. It knows nothing of HTTP or gRPC; each transport maps [`Code`] once.

use std::borrow::Cow;
use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $variant:ident = $text:literal;)*) => {
        /// A stable word for what went wrong; `docs/reference/errors.md` is generated from these.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// What it means and what to do, for the reference.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, "\n",)*),)* }
            }
        }
    };
}

codes! {
    /// The request is malformed; the message names the field. Mend it and send it again.
    InvalidRequest = "invalid_request";
    /// The path does not take this method; the header `Allow` names those that it takes.
    MethodNotAllowed = "method_not_allowed";
    /// `parallax.toml` or the `spec` has mistakes; the message lists each with its place.
    InvalidSpec = "invalid_spec";
    /// The source archive is unsafe or unreadable; the message names the entry.
    InvalidSource = "invalid_source";
    /// Nothing, or too much, says how to start the agent; the message has the line to add.
    StartCommandMissing = "start_command_missing";
    /// The source cannot be planned; the message says what was found and what would settle it.
    PlanFailed = "plan_failed";
    /// The input does not satisfy the capability's schema, says the agent.
    InvalidInput = "invalid_input";
    /// No credential, or one that is unknown. Pass an API key as `Authorization: Bearer`.
    Unauthenticated = "unauthenticated";
    /// The credential has expired; ask for a new one.
    CredentialExpired = "credential_expired";
    /// The credential lacks the scope that the message names.
    Forbidden = "forbidden";
    /// Nothing of that kind and name exists in this tenant.
    NotFound = "not_found";
    /// The name is taken.
    AlreadyExists = "already_exists";
    /// The object's present state does not allow this; the message says which state and why.
    Conflict = "conflict";
    /// The same `Idempotency-Key` was used with a different request.
    IdempotencyMismatch = "idempotency_mismatch";
    /// Another owner (`managed_by`) writes this agent; use that door.
    ManagedElsewhere = "managed_elsewhere";
    /// Larger than a limit; the message names the limit.
    TooLarge = "too_large";
    /// A quota or a bounded queue is full. Wait and try again.
    ResourceExhausted = "resource_exhausted";
    /// No connected agent offers this. Start one, or wait for it.
    AgentUnavailable = "agent_unavailable";
    /// The agent does not offer the capability; the message lists those it offers.
    CapabilityUnknown = "capability_unknown";
    /// The agent answered with a failure of its own; `agent_code` is its word.
    AgentFailed = "agent_failed";
    /// The agent went away before it answered. The work may have happened or not.
    AgentLost = "agent_lost";
    /// Time ran out. The message says whether the agent could be asked to stop.
    DeadlineExceeded = "deadline_exceeded";
    /// The work was cancelled.
    Cancelled = "cancelled";
    /// The host cannot give the isolation that the agent demands.
    IsolationUnavailable = "isolation_unavailable";
    /// The host with the data is away, and the data is out of reach until it is back.
    HostUnavailable = "host_unavailable";
    /// The disk is full. Free some space and try again; nothing was stored.
    StorageFull = "storage_full";
    /// The database is locked or away. Nothing was changed; try again.
    StoreUnavailable = "store_unavailable";
    /// The server is stopping. Try again in a moment.
    ShuttingDown = "shutting_down";
    /// This release does not do that yet.
    NotImplemented = "not_implemented";
    /// A fault of the server's own. The log has the details under the request's id.
    Internal = "internal";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Code {
    /// Whether the same request may succeed later although nobody changes anything.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::AgentUnavailable
                | Self::HostUnavailable
                | Self::ResourceExhausted
                | Self::ShuttingDown
                | Self::StoreUnavailable
        )
    }
}

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or(UnknownCode)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an error code of this version")]
pub struct UnknownCode;

/// What a use case answers when it cannot do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub code: Code,
    /// For a person: what happened, where, and what to do. Never holds a secret.
    pub message: Cow<'static, str>,
    /// For the log only.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            source: None,
        }
    }

    /// Attaches the cause, which is logged and never shown to a caller.
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    pub fn not_found(kind: &str, name: impl fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("no {kind} `{name}` in this tenant"))
    }

    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(
            Code::Internal,
            "the server failed; its log has the details under this request's id",
        )
        .caused_by(source)
    }
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

pub type Result<T, E = Error> = std::result::Result<T, E>;
