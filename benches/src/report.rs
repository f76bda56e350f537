//! One figure, printed for a person or for a program.

use std::fmt;

use serde::Serialize;

use crate::conditions::Conditions;
use crate::sample::{Paired, median};

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unit {
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// Calls in one second.
    #[serde(rename = "per_second")]
    PerSecond,
}

/// What the project promises about a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Promise {
    /// The value itself stays at or below this.
    ValueAtMost(f64),
    /// The value divided by the floor's stays at or above this.
    RatioAtLeast(f64),
    /// Shown, and judged by the reader.
    None,
}

/// One line of the report. The serialised fields are the format of `cargo xtask bench --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// The bench that measured it.
    pub bench: &'static str,
    /// What was measured.
    pub metric: &'static str,
    /// What `value` and `floor` count.
    pub unit: Unit,
    /// The product's median.
    pub value: f64,
    /// The floor's median, measured in alternation.
    pub floor: Option<f64>,
    /// `value / floor`.
    pub ratio: Option<f64>,
    /// How many samples each median rests on.
    pub samples: usize,
    /// The machine.
    pub conditions: Conditions,
    /// What is promised; not part of the JSON.
    #[serde(skip)]
    pub promise: Promise,
}

impl Figure {
    /// A figure with its floor.
    pub fn paired(
        bench: &'static str,
        metric: &'static str,
        unit: Unit,
        samples: &Paired,
        promise: Promise,
        conditions: &Conditions,
    ) -> Self {
        let (value, floor) = (median(&samples.product), median(&samples.floor));
        Self {
            bench,
            metric,
            unit,
            value,
            floor: Some(floor),
            // A floor of nothing has no ratio, and JSON has no infinity.
            ratio: (floor > 0.0).then(|| value / floor),
            samples: samples.product.len(),
            conditions: conditions.clone(),
            promise,
        }
    }

    /// What the product adds to the floor: the median of the differences, pair by pair.
    pub fn added(
        bench: &'static str,
        metric: &'static str,
        unit: Unit,
        samples: &Paired,
        promise: Promise,
        conditions: &Conditions,
    ) -> Self {
        let pairs = samples.product.iter().zip(&samples.floor);
        let added: Vec<f64> = pairs.map(|(product, floor)| product - floor).collect();
        let samples = Paired {
            product: added,
            floor: samples.floor.clone(),
        };
        Self::paired(bench, metric, unit, &samples, promise, conditions)
    }

    /// A figure that has no floor, such as a size.
    pub fn plain(
        bench: &'static str,
        metric: &'static str,
        unit: Unit,
        samples: &[f64],
        promise: Promise,
        conditions: &Conditions,
    ) -> Self {
        Self {
            bench,
            metric,
            unit,
            value: median(samples),
            floor: None,
            ratio: None,
            samples: samples.len(),
            conditions: conditions.clone(),
            promise,
        }
    }

    /// Whether the promise holds; a figure without one is always kept.
    pub fn is_kept(&self) -> bool {
        match self.promise {
            Promise::None => true,
            Promise::ValueAtMost(limit) => self.value <= limit,
            Promise::RatioAtLeast(limit) => self.ratio.is_some_and(|ratio| ratio >= limit),
        }
    }

    /// One line of JSON.
    ///
    /// # Panics
    /// Never: the fields are numbers, text and structs of them.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text can always be written")
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = format!("{}/{}", self.bench, self.metric);
        write!(f, "{name:<32} {:>14}", shown(self.value, self.unit))?;
        match (self.floor, self.ratio) {
            (Some(floor), Some(ratio)) => {
                let floor = shown(floor, self.unit);
                write!(f, "  floor {floor:>14}  ratio {ratio:>6.2}")?;
            }
            _ => write!(f, "  {:34}", "")?,
        }
        write!(f, "  {} samples", self.samples)?;
        let verdict = if self.is_kept() { "kept" } else { "MISSED" };
        match self.promise {
            Promise::None => Ok(()),
            Promise::ValueAtMost(limit) => {
                write!(f, "  promised ≤ {}: {verdict}", shown(limit, self.unit))
            }
            Promise::RatioAtLeast(limit) => write!(f, "  promised ratio ≥ {limit}: {verdict}"),
        }
    }
}

fn shown(value: f64, unit: Unit) -> String {
    const KIB: f64 = 1024.0;
    match unit {
        Unit::Milliseconds => format!("{value:.3} ms"),
        Unit::PerSecond => format!("{value:.0} /s"),
        Unit::Bytes if value >= KIB * KIB => format!("{:.1} MiB", value / KIB / KIB),
        Unit::Bytes => format!("{:.1} KiB", value / KIB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions() -> Conditions {
        Conditions {
            cpus: 2,
            cpu_model: "a model".to_owned(),
            kernel: "6.1".to_owned(),
            memory_bytes: 1024,
            load_before: "0.10".to_owned(),
        }
    }

    fn figure(promise: Promise) -> Figure {
        let samples = Paired {
            product: vec![30.0; 7],
            floor: vec![20.0; 7],
        };
        let unit = Unit::Milliseconds;
        Figure::paired(
            "serve",
            "ready_time",
            unit,
            &samples,
            promise,
            &conditions(),
        )
    }

    #[test]
    fn the_json_has_the_promised_fields_and_no_others() {
        assert_eq!(
            figure(Promise::ValueAtMost(150.0)).json(),
            r#"{"bench":"serve","metric":"ready_time","unit":"ms","value":30.0,"floor":20.0,"ratio":1.5,"samples":7,"conditions":{"cpus":2,"cpu_model":"a model","kernel":"6.1","memory_bytes":1024,"load_before":"0.10"}}"#
        );
    }

    #[test]
    fn a_promise_is_about_the_value_or_the_ratio() {
        let kept = |promise| figure(promise).is_kept();
        assert!(kept(Promise::ValueAtMost(30.0)) && !kept(Promise::ValueAtMost(29.0)));
        assert!(kept(Promise::RatioAtLeast(1.5)) && !kept(Promise::RatioAtLeast(1.6)));
    }

    #[test]
    fn what_is_added_is_the_median_of_the_differences() {
        let samples = Paired {
            product: vec![5.0, 9.0, 31.0],
            floor: vec![4.0, 7.0, 30.0],
        };
        let unit = Unit::Milliseconds;
        let promise = Promise::ValueAtMost(1.5);
        let figure = Figure::added("dispatch", "added", unit, &samples, promise, &conditions());
        assert_eq!((figure.value, figure.floor), (1.0, Some(7.0)));
        assert!(figure.is_kept());
    }

    #[test]
    fn a_missed_promise_is_said_in_the_table() {
        let line = figure(Promise::ValueAtMost(29.0)).to_string();
        assert!(line.contains("promised ≤ 29.000 ms: MISSED"), "{line}");
    }

    #[test]
    fn a_size_has_no_floor() {
        let limit = Promise::ValueAtMost(40.0 * 1024.0 * 1024.0);
        let size = [20.0 * 1024.0 * 1024.0; 7];
        let figure = Figure::plain(
            "serve",
            "idle_rss",
            Unit::Bytes,
            &size,
            limit,
            &conditions(),
        );
        assert!(figure.is_kept());
        assert!(figure.json().contains(r#""floor":null,"ratio":null"#));
    }
}
