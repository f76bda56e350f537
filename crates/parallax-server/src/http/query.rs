//! Query parameters: strict, and refused with a problem.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use parallax_core::error::{Error, Result};
use parallax_store::{Listed, Page};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::problem::Failure;

/// Items of a page when the caller does not say.
const DEFAULT_LIMIT: u32 = 100;
/// Most items of a page.
const MAX_LIMIT: u32 = 500;
/// Longest cursor that is looked at; ours are shorter.
const MAX_CURSOR: usize = 200;

/// The query as `T`.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = Query::try_from_uri(&parts.uri);
        let wrong = |e: axum::extract::rejection::QueryRejection| {
            Error::invalid(format!("the query cannot be read: {}", e.body_text()))
        };
        let Query(value) = query.map_err(wrong)?;
        Ok(Self(value))
    }
}

/// The `{id}` of the path, as text.
#[derive(Debug)]
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(id) = path.map_err(|e| Error::invalid(e.body_text()))?;
        Ok(Self(id))
    }
}

impl Id {
    /// As a typed id.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&self) -> Result<T> {
        self.0.parse().map_err(|e| Error::invalid(format!("{e}")))
    }
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items: 1 to 500, 100 when absent.
    pub(crate) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

impl PageQuery {
    pub(crate) fn page(&self) -> Result<Page> {
        page(self.limit, self.cursor.as_deref())
    }
}

/// Checks what a caller says of the part that it wants.
pub(crate) fn page(limit: Option<u32>, cursor: Option<&str>) -> Result<Page> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::invalid(format!("`limit` must be 1 to {MAX_LIMIT}")));
    }
    match cursor {
        None => Ok(Page::first(limit)),
        Some(text) if text.len() <= MAX_CURSOR && text.bytes().all(|c| c.is_ascii_graphic()) => {
            Ok(Page::after(text, limit))
        }
        Some(_) => Err(Error::invalid(
            "`cursor` is none that this server has given",
        )),
    }
}

/// A page of the store's as a page of the API's; `key` is what the next page begins after.
pub(crate) fn listed<T, V: ToSchema>(
    listed: Listed<T>,
    key: impl Fn(&T) -> String,
    view: impl Fn(T) -> V,
) -> axum::Json<parallax_api::Page<V>> {
    let next_cursor = listed.items.last().filter(|_| listed.more).map(key);
    let items = listed.items.into_iter().map(view).collect();
    axum::Json(parallax_api::Page { items, next_cursor })
}

/// Reads `?name`, `?name=true` and `?name=false`.
pub(crate) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        other => Err(serde::de::Error::custom(format!(
            "`{other}` is neither true nor false"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_bounds() {
        assert_eq!(page(None, None).expect("the default"), Page::first(100));
        assert_eq!(
            page(Some(500), Some("a")).expect("the most"),
            Page::after("a", 500)
        );
        assert!(page(Some(0), None).is_err() && page(Some(501), None).is_err());
        assert!(page(None, Some("a\0b")).is_err());
    }
}
