use std::cell::RefCell;
use std::convert::Infallible;

use super::*;

#[test]
fn the_median_is_the_middle_and_ignores_an_outlier() {
    assert_eq!(median(&[3.0, 1.0, 900.0]), 3.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
}

#[test]
fn rounds_alternate_and_swap_their_order() {
    let order = RefCell::new(String::new());
    let paired = interleaved::<Infallible>(
        0,
        || {
            order.borrow_mut().push('p');
            Ok(2.0)
        },
        || {
            order.borrow_mut().push('f');
            Ok(1.0)
        },
    );
    let Ok(paired) = paired;
    assert_eq!(order.into_inner(), "pffppffppffppf");
    assert_eq!(paired.product, [2.0; MIN_SAMPLES]);
    assert_eq!(paired.floor, [1.0; MIN_SAMPLES]);
}

#[test]
fn the_first_error_ends_the_sampling() {
    let mut calls = 0;
    let outcome = repeated(10, || {
        calls += 1;
        if calls == 3 { Err("gone") } else { Ok(1.0) }
    });
    assert_eq!((outcome, calls), (Err("gone"), 3));
}
