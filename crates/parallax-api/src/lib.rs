//! Public HTTP request and response types.
