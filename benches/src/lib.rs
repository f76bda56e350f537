//! What every bench needs: interleaved sampling, medians, and one way to report.
//!
//! A figure without its floor says little about the product and much about the machine. So each
//! bench measures the least that the machine could do for the same work, in the same run and in
//! alternation, and reports the ratio beside both raw numbers.

pub mod conditions;
pub mod report;
pub mod sample;
