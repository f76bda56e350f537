//! Keyset paging: a page begins after the last key of the page before.

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The key of the last item that the caller has seen; `None` begins the list.
    pub after: Option<String>,
    /// Most items to return.
    pub limit: u32,
}

impl Page {
    /// The first `limit` items.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The next `limit` items after the one with this key.
    #[must_use]
    pub fn after(key: impl ToString, limit: u32) -> Self {
        Self {
            after: Some(key.to_string()),
            limit,
        }
    }

    /// One more than wanted: whether it comes tells whether there is another page.
    pub(crate) fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Where an ascending list goes on: every key is greater than the empty text.
    pub(crate) fn ascending(&self) -> &str {
        self.after.as_deref().unwrap_or("")
    }

    /// Where a descending list of ids goes on: every id is smaller than this.
    pub(crate) fn descending(&self) -> &str {
        self.after.as_deref().unwrap_or("~")
    }

    pub(crate) fn cut<T>(&self, mut items: Vec<T>) -> Listed<T> {
        let limit = self.limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        Listed { items, more }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T> {
    pub items: Vec<T>,
    /// Whether the list goes on after the last of `items`.
    pub more: bool,
}
