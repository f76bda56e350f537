//! What instances say of themselves.

use parallax_core::instance::{Capability, Sdk};
use parallax_core::json::{Json, NotJson};

use crate::v1;

/// Why a capability is not what its message promises.
#[derive(Debug, thiserror::Error)]
#[error("the input schema of capability `{name}` is not JSON")]
pub struct InvalidSchema {
    pub name: String,
    #[source]
    source: NotJson,
}

impl TryFrom<v1::Capability> for Capability {
    type Error = InvalidSchema;

    fn try_from(capability: v1::Capability) -> Result<Self, InvalidSchema> {
        let schema = Some(capability.input_schema_json).filter(|json| !json.is_empty());
        let input_schema = match schema.map(Json::parse).transpose() {
            Ok(schema) => schema,
            Err(source) => {
                let name = capability.name;
                return Err(InvalidSchema { name, source });
            }
        };
        Ok(Self {
            name: capability.name,
            version: capability.version,
            description: capability.description,
            max_concurrency: capability.max_concurrency,
            input_schema,
            idempotent: capability.idempotent,
        })
    }
}

impl From<Capability> for v1::Capability {
    fn from(capability: Capability) -> Self {
        let schema = capability.input_schema.map(Json::into_bytes);
        Self {
            name: capability.name,
            version: capability.version,
            max_concurrency: capability.max_concurrency,
            input_schema_json: schema.unwrap_or_default(),
            idempotent: capability.idempotent,
            description: capability.description,
        }
    }
}

impl From<v1::Sdk> for Sdk {
    fn from(sdk: v1::Sdk) -> Self {
        Self {
            name: sdk.name,
            version: sdk.version,
            language: sdk.language,
        }
    }
}

impl From<Sdk> for v1::Sdk {
    fn from(sdk: Sdk) -> Self {
        Self {
            name: sdk.name,
            version: sdk.version,
            language: sdk.language,
        }
    }
}
