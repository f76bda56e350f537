//! The binary as people and scripts use it: what it prints, and what it exits with.

mod calls;
mod command_line;
mod folder;
mod harness;
mod hostile;
mod keys;
mod life;
