//! What can go wrong in the store, by what a caller can do about it.

use std::sync::Arc;

use parallax_core::error::{Code, Error};

/// Why the store did not do what was asked. Unless said otherwise, nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database is locked, overloaded or away; the same call may work in a moment.
    #[error("the database is unavailable: {why}")]
    Unavailable {
        why: &'static str,
        #[source]
        source: Option<Arc<sqlx::Error>>,
    },
    /// Another server holds this database.
    #[error(
        "another Parallax server uses {database} already ({holder}); stop that server, or give this one a database of its own"
    )]
    AlreadyServed { database: String, holder: String },
    /// A later release has migrated the database.
    #[error(
        "the database has schema version {found}, this program knows up to {known}; start the release that wrote it, or a later one"
    )]
    NewerSchema { found: i64, known: i64 },
    /// A row like that exists.
    #[error("{0}")]
    Unique(Constraint),
    /// No such row in this tenant.
    #[error("no such {0} in this tenant")]
    NotFound(&'static str),
    /// A transaction of one tenant was given a row of another; a fault of the caller's.
    #[error("a transaction of one tenant was given a {0} of another")]
    ForeignTenant(&'static str),
    /// What is stored does not make sense.
    #[error("the store holds something that this program cannot read: {what}")]
    Corrupt {
        what: String,
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// The disk, or the quota on it, is full.
    #[error("the disk with the data is full; free some space and try again")]
    StorageFull {
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The database cannot be opened as it is set up.
    #[error("cannot open the database: {what}")]
    Setup {
        what: String,
        #[source]
        source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    },
    /// A closure that was given to the store panicked; its writes were rolled back.
    #[error("the work inside a transaction panicked; its writes were rolled back")]
    Panicked,
    /// Anything else that a database says: a fault of the store's own.
    #[error("the database refused a statement")]
    Other(#[source] Arc<sqlx::Error>),
}

macro_rules! constraints {
    ($($(#[doc = $doc:literal])* $variant:ident = $index:literal / $columns:literal => $message:literal;)*) => {
        /// A rule that no two rows may break.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
        pub enum Constraint {
            $($(#[doc = $doc])* #[error($message)] $variant,)*
            /// An id, or another key that is not chosen by a person.
            #[error("an object with this id exists already")]
            Id,
        }

        impl Constraint {
            /// Every named rule with its index and, as SQLite reports it, its columns.
            pub const NAMED: &'static [(Self, &'static str, &'static str)] =
                &[$((Self::$variant, $index, $columns),)*];
        }
    };
}

constraints! {
    TenantName = "tenants_name" / "tenants.name" => "a tenant of this name exists already";
    KeyName = "keys_name" / "keys.tenant_id, keys.name" => "a key of this name exists already";
    KeyId = "keys_id" / "keys.key_id" => "a key with this id exists already";
    AgentName = "agents_name" / "agents.tenant_id, agents.name" => "an agent of this name exists already";
    RevisionNumber = "revisions_number" / "revisions.tenant_id, revisions.agent_id, revisions.number"
        => "the agent has a revision with this number already";
    /// One build for each host and key.
    BuildKey = "builds_key" / "builds.tenant_id, builds.host_id, builds.key_digest"
        => "the host has a build of this source already";
    HostName = "hosts_name" / "hosts.tenant_id, hosts.name" => "a host of this name exists already";
    TaskIdempotency = "tasks_idempotency" / "tasks.tenant_id, tasks.idempotency_key"
        => "a task with this idempotency key exists already";
}

impl StoreError {
    pub(crate) fn setup(what: impl Into<String>) -> Self {
        Self::Setup {
            what: what.into(),
            source: None,
        }
    }

    pub(crate) fn setup_from(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Setup {
            what: what.into(),
            source: Some(Arc::new(source)),
        }
    }

    pub(crate) fn corrupt(
        what: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Corrupt {
            what: what.into(),
            source: Some(Arc::new(source)),
        }
    }

    /// Whether running the same transaction again may succeed at once: two transactions of
    /// PostgreSQL's stood in each other's way.
    pub(crate) fn is_conflict(&self) -> bool {
        let Self::Unavailable {
            source: Some(source),
            ..
        } = self
        else {
            return false;
        };
        let code = source.as_database_error().and_then(|error| error.code());
        matches!(code.as_deref(), Some("40001" | "40P01"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let why = match &error {
            E::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                return from_database(&code, error);
            }
            E::Io(_) | E::Protocol(_) | E::Tls(_) => "the connection to it was lost",
            E::PoolTimedOut => "every connection to it is busy",
            E::PoolClosed | E::WorkerCrashed => "it was closed",
            E::BeginFailed => "it did not begin a transaction",
            E::Configuration(what) => {
                return Self::Setup {
                    what: what.to_string(),
                    source: None,
                };
            }
            _ => return Self::Other(Arc::new(error)),
        };
        Self::Unavailable {
            why,
            source: Some(Arc::new(error)),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. } | StoreError::AlreadyServed { .. } => {
                Code::StoreUnavailable
            }
            StoreError::StorageFull { .. } => Code::StorageFull,
            StoreError::Unique(_) => Code::AlreadyExists,
            StoreError::NotFound(_) => Code::NotFound,
            _ => return Self::internal(error),
        };
        Self::new(code, error.to_string()).caused_by(error)
    }
}

/// Maps what a driver reports. SQLite's codes are numbers, PostgreSQL's have five characters, so
/// that one table serves both.
fn from_database(code: &str, error: sqlx::Error) -> StoreError {
    let source = Arc::new(error);
    let unavailable = |why| StoreError::Unavailable {
        why,
        source: Some(Arc::clone(&source)),
    };
    match code {
        "1555" | "2067" | "23505" => StoreError::Unique(constraint(&source)),
        "13" | "53100" => StoreError::StorageFull { source },
        "11" | "26" | "XX001" | "XX002" => StoreError::Corrupt {
            what: "the database file".to_owned(),
            source: Some(source),
        },
        // The low byte is the primary code: 5 is BUSY, 6 LOCKED.
        "5" | "6" | "261" | "262" | "517" | "518" | "773" => {
            unavailable("another process holds it locked")
        }
        "55P03" => unavailable("its locks are held by other transactions"),
        "40001" | "40P01" => unavailable("transactions stood in each other's way"),
        "57014" => unavailable("a statement took too long"),
        "53300" => unavailable("it has no connection left to give"),
        code if code.starts_with("08") || code.starts_with("57P") => {
            unavailable("the server of the database went away")
        }
        _ => StoreError::Other(source),
    }
}

fn constraint(error: &sqlx::Error) -> Constraint {
    let Some(database) = error.as_database_error() else {
        return Constraint::Id;
    };
    let by_index = database.constraint();
    let by_columns = database
        .message()
        .strip_prefix("UNIQUE constraint failed: ");
    Constraint::NAMED
        .iter()
        .find(|(_, index, columns)| by_index == Some(*index) || by_columns == Some(*columns))
        .map_or(Constraint::Id, |(constraint, ..)| *constraint)
}
