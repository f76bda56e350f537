use std::os::unix::fs::PermissionsExt;

use parallax_core::time::Timestamp;
use tokio::io::AsyncReadExt;

use super::*;

const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn tenant(n: u8) -> TenantId {
    TenantId::new(Timestamp::from_unix_millis(1), [n; 10])
}

fn digest(text: &str) -> BlobDigest {
    text.parse().unwrap()
}

async fn store(folder: &Path) -> BlobStore {
    BlobStore::open(folder.join("blobs")).await.unwrap()
}

async fn put(store: &BlobStore, tenant: TenantId, chunks: &[&[u8]]) -> Result<Stored, BlobError> {
    let mut writer = store.put(tenant, 100).await?;
    for chunk in chunks {
        writer.write(chunk).await?;
    }
    writer.finish(None).await
}

/// Every file below, with its size.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let (path, metadata) = entry.map(|e| (e.path(), e.metadata().unwrap())).unwrap();
        if metadata.is_dir() {
            assert_eq!(
                metadata.permissions().mode() & 0o777,
                0o700,
                "{}",
                path.display()
            );
            found.extend(files(&path));
        } else {
            assert_eq!(
                metadata.permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
            found.push((path, metadata.len()));
        }
    }
    found
}

#[tokio::test]
async fn a_blob_is_read_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    for _ in 0..2 {
        let stored = put(&store, tenant(1), &[b"he", b"", b"llo"]).await.unwrap();
        assert_eq!(
            stored,
            Stored {
                digest: digest(HELLO),
                size_bytes: 5
            }
        );
    }
    let mut text = String::new();
    let mut file = store.get(tenant(1), &digest(HELLO)).await.unwrap().unwrap();
    file.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
    assert_eq!(
        store.size(tenant(1), &digest(HELLO)).await.unwrap(),
        Some(5)
    );
    assert_eq!(files(&folder.path().join("blobs")).len(), 1);
    assert!(store.delete(tenant(1), &digest(HELLO)).await.unwrap());
    assert!(!store.delete(tenant(1), &digest(HELLO)).await.unwrap());
}

#[tokio::test]
async fn a_tenant_cannot_tell_what_another_has() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    put(&store, tenant(1), &[b"hello"]).await.unwrap();
    assert!(
        store
            .get(tenant(2), &digest(HELLO))
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(store.size(tenant(2), &digest(HELLO)).await.unwrap(), None);
    assert!(!store.delete(tenant(2), &digest(HELLO)).await.unwrap());
}

#[tokio::test]
async fn a_blob_that_is_refused_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    let large = put(&store, tenant(1), &[&[0; 60], &[0; 60]]).await;
    assert!(
        matches!(large, Err(BlobError::TooLarge { limit_bytes: 100 })),
        "{large:?}"
    );
    let mut other = store.put(tenant(1), 100).await.unwrap();
    other.write(b"hell").await.unwrap();
    let other = other.finish(Some(&digest(HELLO))).await;
    assert!(
        matches!(other, Err(BlobError::DigestMismatch { .. })),
        "{other:?}"
    );
    drop(store.put(tenant(1), 100).await.unwrap());
    assert_eq!(files(&folder.path().join("blobs")), []);
}

#[tokio::test]
async fn what_a_crash_left_half_written_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = store(folder.path())
        .await
        .put(tenant(1), 100)
        .await
        .unwrap();
    writer.write(b"hel").await.unwrap();
    writer.file.flush().await.unwrap();
    // As a crash would: no destructor runs.
    std::mem::forget(writer);
    assert_eq!(files(&folder.path().join("blobs")).len(), 1);
    let again = store(folder.path()).await;
    assert_eq!(files(&folder.path().join("blobs")), []);
    put(&again, tenant(1), &[b"hello"]).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_told_from_other_failures() {
    let path = Path::new("/dev/full");
    let mut full = fs::OpenOptions::new().write(true).open(path).await.unwrap();
    full.write_all(b"x").await.unwrap();
    let error = failed("cannot write", path)(full.flush().await.unwrap_err());
    assert!(matches!(error, BlobError::StorageFull(_)), "{error:?}");
    assert_eq!(Error::from(error).code, Code::StorageFull);
}

#[tokio::test]
async fn what_is_no_tenants_folder_does_not_keep_the_store_from_opening() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("blobs");
    store(folder.path()).await;
    std::fs::write(root.join("notes.txt"), "mine").unwrap();
    std::fs::write(root.join(tenant(9).to_string()), "a file").unwrap();
    std::fs::create_dir_all(root.join("lost+found/incoming")).unwrap();
    let again = store(folder.path()).await;
    put(&again, tenant(1), &[b"hello"]).await.unwrap();
    assert!(root.join("notes.txt").exists());
    assert!(root.join("lost+found/incoming").exists());
}

#[tokio::test]
async fn a_tenants_blobs_are_listed_by_the_first_byte_of_their_digests() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path()).await;
    put(&store, tenant(1), &[b"hello"]).await.unwrap();
    put(&store, tenant(2), &[b"other"]).await.unwrap();
    let first = u8::from_str_radix(&HELLO[7..9], 16).unwrap();
    let place = place(&store.tenant(tenant(1)), &digest(HELLO));
    std::fs::write(place.with_file_name("stray"), "").unwrap();
    std::fs::write(place.parent().unwrap().with_file_name("stray"), "").unwrap();
    let listed = store.list(tenant(1), first).await.unwrap();
    assert_eq!(listed, [digest(HELLO)]);
    let none = store.list(tenant(1), first.wrapping_add(1)).await.unwrap();
    assert_eq!(none, []);
    let at = store.put_at(tenant(1), &digest(HELLO)).await.unwrap();
    assert!(at.is_some());
    assert_eq!(store.put_at(tenant(3), &digest(HELLO)).await.unwrap(), None);
}
