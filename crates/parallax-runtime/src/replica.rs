//! One replica: its records, its files, and the task that sees to it.

mod account;
mod actor;
mod env;
mod files;
mod launch;
mod observe;
mod record;
mod turns;

pub(crate) use account::exit_of;
pub(crate) use actor::{Actor, Context, Event, Handle, Orders};
pub(crate) use launch::sane;
pub(crate) use record::{Assignment, Load, Secret, load};
pub(crate) use turns::Turns;
