//! Paging and the other things that come in a query.

use parallax_api::Page;
use parallax_core::error::{Error, Result};
use parallax_store::Listed;
use utoipa::ToSchema;

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 500;

/// `?limit=&cursor=` of every list.
#[derive(Debug, Clone, Default, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// At most 500; 100 when absent.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl Paging {
    pub(crate) fn limit(&self) -> Result<u32> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            0 => Err(Error::invalid("`limit` must be at least 1")),
            n => Ok(n.min(MAX_LIMIT)),
        }
    }

    pub(crate) fn page(&self) -> Result<parallax_store::Page> {
        let limit = self.limit()?;
        Ok(match &self.cursor {
            Some(cursor) => parallax_store::Page::after(cursor, limit),
            None => parallax_store::Page::first(limit),
        })
    }
}

/// A page of views of what the store listed.
pub(crate) fn page<T, V: ToSchema>(
    listed: Listed<T>,
    cursor: impl Fn(&T) -> String,
    view: impl Fn(T) -> V,
) -> Page<V> {
    let next_cursor = listed.items.last().filter(|_| listed.more).map(cursor);
    Page {
        items: listed.items.into_iter().map(view).collect(),
        next_cursor,
    }
}
