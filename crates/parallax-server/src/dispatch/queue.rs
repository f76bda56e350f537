//! Calls that wait for an instance with room, in the order in which they came.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

use parallax_core::id::TaskId;
use tokio::time::Instant;

use super::call::{Call, Sink};

/// A call that was taken on and has not been sent.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) call: Arc<Call>,
    pub(super) attempt: u32,
    pub(super) sink: Sink,
}

/// The waiting calls of one agent. Each capability has its own line, so that a busy one lets the
/// others by without anybody looking through all that wait for it.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<i64, Waiting>,
    lines: HashMap<String, BTreeSet<i64>>,
    places: HashMap<TaskId, i64>,
    /// The smallest and the largest number given so far: calls that are sent again go first.
    front: i64,
    back: i64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.back += 1;
        self.put(self.back, waiting);
    }

    /// For calls that had their turn already.
    pub(super) fn push_front(&mut self, waiting: Waiting) {
        self.front -= 1;
        self.put(self.front, waiting);
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Waiting> {
        let place = *self.places.get(&id)?;
        self.take(place)
    }

    /// The first place of each line, the longest wait on top.
    pub(super) fn heads(&self) -> BinaryHeap<Reverse<i64>> {
        let first = |line: &BTreeSet<i64>| line.first().copied();
        self.lines.values().filter_map(first).map(Reverse).collect()
    }

    pub(super) fn take(&mut self, place: i64) -> Option<Waiting> {
        let waiting = self.entries.remove(&place)?;
        self.places.remove(&waiting.call.id);
        if let Some(line) = self.lines.get_mut(&waiting.call.capability) {
            line.remove(&place);
            if line.is_empty() {
                self.lines.remove(&waiting.call.capability);
            }
        }
        Some(waiting)
    }

    pub(super) fn put(&mut self, place: i64, waiting: Waiting) {
        self.places.insert(waiting.call.id, place);
        match self.lines.get_mut(&waiting.call.capability) {
            Some(line) => {
                line.insert(place);
            }
            None => {
                let capability = waiting.call.capability.clone();
                self.lines.insert(capability, BTreeSet::from([place]));
            }
        }
        self.entries.insert(place, waiting);
    }

    /// The next place in the line of a capability.
    pub(super) fn head_of(&self, capability: &str) -> Option<i64> {
        self.lines.get(capability)?.first().copied()
    }

    /// Takes out the calls whose time is up at `now`, and those nobody waits for.
    pub(super) fn take_over(&mut self, now: Instant) -> Vec<Waiting> {
        let over = |w: &Waiting| w.call.is_due(now) || w.sink.is_abandoned();
        let places: Vec<i64> = self
            .entries
            .iter()
            .filter(|(_, w)| over(w))
            .map(|(place, _)| *place)
            .collect();
        places.into_iter().filter_map(|at| self.take(at)).collect()
    }

    pub(super) fn drain(&mut self) -> Vec<Waiting> {
        self.lines.clear();
        self.places.clear();
        std::mem::take(&mut self.entries).into_values().collect()
    }
}
