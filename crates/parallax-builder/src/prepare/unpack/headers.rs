//! Extension headers: long names of GNU tar and the records of PAX, read with bounds.

use std::io::Read;

use tar::{Entry, EntryType};

use crate::prepare::error::UnpackError;

/// Longer than every path that the limits allow, with room for other records.
const MAX_HEADER_BYTES: u64 = 64 * 1024;

/// What extension headers said about the entry that follows.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl Overrides {
    /// Takes in an extension header; `false` when the entry is none.
    pub(super) fn absorb(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, UnpackError> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(without_nul(content(entry)?)),
            EntryType::GNULongLink => self.target = Some(without_nul(content(entry)?)),
            EntryType::XHeader => self.pax(&content(entry)?)?,
            // Global records, such as the commit id that `git archive` writes, name no entry.
            EntryType::XGlobalHeader => drop(content(entry)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn path(&mut self, entry: &Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
        Ok(match self.path.take() {
            Some(path) => path,
            None => entry.header().path_bytes().into_owned(),
        })
    }

    pub(super) fn target(
        &mut self,
        entry: &Entry<'_, impl Read>,
    ) -> Result<Option<Vec<u8>>, UnpackError> {
        Ok(match self.target.take() {
            Some(target) => Some(target),
            None => entry
                .header()
                .link_name_bytes()
                .map(|target| target.into_owned()),
        })
    }

    /// Records are `LENGTH KEY=VALUE\n`, where the length counts itself.
    fn pax(&mut self, mut records: &[u8]) -> Result<(), UnpackError> {
        let damaged = || UnpackError::BadHeader("a PAX record has a wrong length");
        while !records.is_empty() {
            let space = records
                .iter()
                .position(|b| *b == b' ')
                .ok_or_else(damaged)?;
            let length: usize = std::str::from_utf8(&records[..space])
                .ok() // Reported as damaged.
                .and_then(|digits| digits.parse().ok())
                .filter(|length| *length > space + 1 && *length <= records.len())
                .ok_or_else(damaged)?;
            let record = records[space + 1..length]
                .strip_suffix(b"\n")
                .ok_or_else(damaged)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(damaged)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                // Larger than 8 GiB or sparse: two readers could disagree on where the next
                // entry begins.
                b"size" => {
                    return Err(UnpackError::BadHeader("a PAX record changes a file's size"));
                }
                key if key.starts_with(b"GNU.sparse") => {
                    return Err(UnpackError::BadHeader("sparse files are not accepted"));
                }
                // Times, owners and extended attributes are not taken over.
                _ => {}
            }
            records = &records[length..];
        }
        Ok(())
    }
}

fn content(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, UnpackError> {
    if entry.size() > MAX_HEADER_BYTES {
        return Err(UnpackError::BadHeader("an extension header is too large"));
    }
    let mut bytes = Vec::new();
    entry
        .read_to_end(&mut bytes)
        .map_err(UnpackError::Malformed)?;
    Ok(bytes)
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}
