//! The first start: a tenant, an administration key, and the server's own secret.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use parallax_core::id::{KeyId, TenantId};
use parallax_core::key::{ApiKey, Scope};
use parallax_store::tenants::{self, Tenant};
use parallax_store::{Store, StoreError, keys, meta};

use super::token::{KEY_PURPOSE, Pepper, Secret, mint_key, secret_part};
use crate::clock::{Clock, random};

const PEPPER_FILE: &str = "pepper";
/// Where the CLI finds the administration key.
pub const ADMIN_KEY_FILE: &str = "admin.key";
const PEPPER_CHECK: &str = "pepper_check";

/// Why the first start failed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("cannot write {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is not the secret that this database's keys were made with; restore the file that belongs to the database",
        path.display()
    )]
    WrongPepper { path: PathBuf },
    #[error("the store failed during the first start")]
    Store(#[from] StoreError),
}

/// What the start found or made.
#[derive(Debug)]
pub struct Identity {
    pub pepper: Pepper,
    /// The tenant that the embedded default serves.
    pub tenant: TenantId,
    /// Set at the first start only: to be printed once.
    pub new_admin_key: Option<Secret>,
}

/// Reads the server's secret, and at the first start makes it, a tenant and an administration key.
///
/// # Errors
/// See [`BootstrapError`]. Nothing is half done: the key is in the database only once its file is
/// on disk.
pub async fn run(
    store: &Store,
    data_dir: &Path,
    clock: &Clock,
) -> Result<Identity, BootstrapError> {
    let mut tx = store.system_read().await?;
    let tenant = tenants::first(&mut tx).await?;
    let check = meta::get(&mut tx, PEPPER_CHECK).await?;
    drop(tx);
    let path = data_dir.join(PEPPER_FILE);
    let pepper = read_pepper(&path)?;
    match (tenant, check, pepper) {
        (Some(tenant), Some(check), Some(pepper)) if hex(&pepper.hash("check", b"")) == check => {
            Ok(Identity {
                pepper,
                tenant: tenant.id,
                new_admin_key: None,
            })
        }
        (Some(_), ..) => Err(BootstrapError::WrongPepper { path }),
        (None, ..) => first_start(store, data_dir, clock).await,
    }
}

async fn first_start(
    store: &Store,
    data_dir: &Path,
    clock: &Clock,
) -> Result<Identity, BootstrapError> {
    let now = clock.now();
    let bytes: [u8; 32] = random();
    let pepper = Pepper::new(bytes);
    write_private(&data_dir.join(PEPPER_FILE), &bytes)?;
    let tenant = Tenant {
        id: TenantId::new(now, random()),
        name: "default".parse().expect("it is a DNS label"),
        created_at: now,
    };
    let id = KeyId::new(now, random());
    let secret = mint_key(id, random());
    let key = ApiKey {
        tenant: tenant.id,
        id,
        name: "admin".parse().expect("it is a DNS label"),
        hash: pepper.hash(KEY_PURPOSE, &secret_part(&secret)),
        scopes: [Scope::Admin].into_iter().collect(),
        groups: Vec::new(),
        host: None,
        single_use: false,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    write_private(
        &data_dir.join(ADMIN_KEY_FILE),
        format!("{}\n", secret.reveal()).as_bytes(),
    )?;
    let check = hex(&pepper.hash("check", b""));
    let tenant_id = tenant.id;
    store
        .system_write((tenant, key, check), |tx, (tenant, key, check)| {
            Box::pin(async move {
                tenants::insert(tx, tenant).await?;
                keys::insert(tx, key).await?;
                meta::set(tx, PEPPER_CHECK, check).await
            })
        })
        .await?;
    Ok(Identity {
        pepper,
        tenant: tenant_id,
        new_admin_key: Some(secret),
    })
}

fn read_pepper(path: &Path) -> Result<Option<Pepper>, BootstrapError> {
    let fail = |source| BootstrapError::File {
        path: path.to_owned(),
        source,
    };
    match fs::read(path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Ok(Some(Pepper::new(bytes))),
            Err(_) => Err(BootstrapError::WrongPepper {
                path: path.to_owned(),
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail(error)),
    }
}

/// Writes a 0600 file so that a reader sees all of it or none.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), BootstrapError> {
    let write = || -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or_else(|| Path::new("."));
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| BootstrapError::File {
        path: path.to_owned(),
        source,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
