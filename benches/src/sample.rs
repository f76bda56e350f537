//! Taking samples so that a busy moment of the machine hits the product and its floor alike.

/// The fewest samples that a reported median may rest on.
pub const MIN_SAMPLES: usize = 7;

/// Samples of the product and of its floor, taken in alternation.
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    /// What the product took, one value a round.
    pub product: Vec<f64>,
    /// What the floor took in the same rounds.
    pub floor: Vec<f64>,
}

/// Runs `rounds` rounds (at least [`MIN_SAMPLES`]) of both measurements. Each round swaps the order,
/// so that neither always runs on what the other left in the caches.
///
/// # Errors
/// The first error of either measurement.
pub fn interleaved<E>(
    rounds: usize,
    mut product: impl FnMut() -> Result<f64, E>,
    mut floor: impl FnMut() -> Result<f64, E>,
) -> Result<Paired, E> {
    let mut paired = Paired {
        product: Vec::new(),
        floor: Vec::new(),
    };
    for round in 0..rounds.max(MIN_SAMPLES) {
        if round % 2 == 0 {
            paired.product.push(product()?);
            paired.floor.push(floor()?);
        } else {
            paired.floor.push(floor()?);
            paired.product.push(product()?);
        }
    }
    Ok(paired)
}

/// Runs one measurement `rounds` times, at least [`MIN_SAMPLES`].
///
/// # Errors
/// The first error of the measurement.
pub fn repeated<E>(
    rounds: usize,
    measurement: impl FnMut() -> Result<f64, E>,
) -> Result<Vec<f64>, E> {
    std::iter::repeat_with(measurement)
        .take(rounds.max(MIN_SAMPLES))
        .collect()
}

/// The middle of the samples; with an even number the mean of the two in the middle.
///
/// # Panics
/// Without samples, which no caller here can have.
pub fn median(samples: &[f64]) -> f64 {
    assert!(!samples.is_empty(), "a median needs at least one sample");
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        return sorted[middle];
    }
    f64::midpoint(sorted[middle - 1], sorted[middle])
}

#[cfg(test)]
mod tests;
