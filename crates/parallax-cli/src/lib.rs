//! The parallax binary.
