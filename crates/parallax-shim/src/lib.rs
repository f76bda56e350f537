//! The process that owns one replica: its output, its tree, its exit record.
