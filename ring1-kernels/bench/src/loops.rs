//! Integer and float loops.

use std::hint::black_box;

/// How many primes are below or equal to `n`, with one byte a number. Panics when `n` bytes cannot be had.
pub fn sieve(n: u64) -> u64 {
    let len = usize::try_from(n).ok().and_then(|n| n.checked_add(1)).expect("`n` fits the address space");
    let mut composite = vec![false; len];
    let mut count = 0;
    for p in 2..len {
        if composite[p] {
            continue;
        }
        count += 1;
        // The first multiple that no smaller prime has crossed out.
        let Some(first) = p.checked_mul(p) else { continue };
        composite.iter_mut().skip(first).step_by(p).for_each(|multiple| *multiple = true);
    }
    count
}

/// 1^2 + 2^2 + ... + n^2 modulo 2^64.
pub fn sum_squares(n: u64) -> u64 {
    // Without the black box a compiler knows the closed form and the loop is gone.
    (1..=n).fold(0u64, |sum, i| sum.wrapping_add(black_box(i).wrapping_mul(i)))
}

/// `n` rounds of x <- (x + 2 / x) 0.5 + 0.25, from x = 1.
pub fn float_loop(n: u64) -> f64 {
    (0..n).fold(1.0, |x: f64, _| (x + 2.0 / x) * 0.5 + 0.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_counted() {
        // The prime counting function, OEIS A000720 and A006880.
        let counts = [0, 1, 2, 3, 10, 97, 100, 1000, 1_000_000].map(sieve);
        assert_eq!(counts, [0, 0, 1, 2, 4, 25, 25, 168, 78_498]);
    }

    #[test]
    fn squares_are_summed() {
        assert_eq!([0, 1, 10, 1000].map(sum_squares), [0, 1, 385, 333_833_500]);
    }

    #[test]
    fn the_float_loop_reaches_its_fixed_point() {
        // x = x/2 + 1/x + 1/4 has the positive root (1 + sqrt 33) / 4.
        assert!((float_loop(200) - (1.0 + 33f64.sqrt()) / 4.0).abs() < 1e-12);
        assert_eq!(float_loop(0).to_bits(), 1f64.to_bits());
    }
}
