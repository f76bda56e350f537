//! Real shims, real children.

mod faults;
mod isolation;
mod life;
mod limits;
mod output;
mod socket;
mod starting;
mod support;
