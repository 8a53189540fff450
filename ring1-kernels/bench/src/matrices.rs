//! Dense matrix products in `f64`.
//!
//! The elements are small integers, so every sum is exact and the order of the additions cannot be
//! seen in the result: both products have the same trace, bit for bit.

/// Side of a block: three blocks of 32 x 32 `f64` are 24 KiB.
const BLOCK: usize = 32;

/// Trace of A B with three plain loops.
pub fn trace_naive(n: usize) -> f64 {
    let (a, b) = factors(n);
    let mut c = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..n {
            let mut sum = 0.0;
            for k in 0..n {
                sum += a[i * n + k] * b[k * n + j];
            }
            c[i * n + j] = sum;
        }
    }
    trace(&c, n)
}

/// Trace of A B, block by block.
pub fn trace_blocked(n: usize) -> f64 {
    let (a, b) = factors(n);
    let mut c = vec![0.0; n * n];
    for i in (0..n).step_by(BLOCK) {
        for k in (0..n).step_by(BLOCK) {
            for j in (0..n).step_by(BLOCK) {
                add_block(&a, &b, &mut c, n, (i, k, j));
            }
        }
    }
    trace(&c, n)
}

/// Adds the product of the blocks of `a` at (i, k) and of `b` at (k, j) to that of `c` at (i, j).
fn add_block(a: &[f64], b: &[f64], c: &mut [f64], n: usize, (i0, k0, j0): (usize, usize, usize)) {
    let end = |start: usize| (start + BLOCK).min(n);
    for i in i0..end(i0) {
        for k in k0..end(k0) {
            let factor = a[i * n + k];
            let row = &b[k * n + j0..k * n + end(j0)];
            for (sum, element) in c[i * n + j0..i * n + end(j0)].iter_mut().zip(row) {
                *sum += factor * element;
            }
        }
    }
}

/// Two n x n matrices with elements from -8 to 8, row by row.
fn factors(n: usize) -> (Vec<f64>, Vec<f64>) {
    let element = |i: usize, by: usize| (i.wrapping_mul(by) % 17) as f64 - 8.0;
    let matrix = |by| (0..n * n).map(|i| element(i, by)).collect();
    (matrix(7), matrix(11))
}

fn trace(c: &[f64], n: usize) -> f64 {
    c.iter().step_by(n + 1).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_products_agree_bit_for_bit() {
        for n in [0, 1, 2, 31, 32, 33, 70] {
            assert_eq!(trace_naive(n).to_bits(), trace_blocked(n).to_bits(), "n = {n}");
        }
    }

    #[test]
    fn a_small_product_is_right() {
        // A = [[-8, -1], [6, -4]], B = [[-8, 3], [-3, 8]]: (64 + 3) + (18 - 32).
        assert_eq!(trace_naive(2).to_bits(), 53f64.to_bits());
    }
}
