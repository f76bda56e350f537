//! Ids, specs, state machines and domain errors. Pure: no I/O, no clock.
