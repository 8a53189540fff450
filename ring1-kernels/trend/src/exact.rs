//! Linear algebra without rounding: Bareiss elimination and one final division.
//!
//! Fraction-free elimination keeps every entry an integer: after step k each is a minor of the
//! original matrix of order k + 1, so the divisions below have no remainder and entries stay as
//! short as Hadamard's bound on such minors (E. H. Bareiss, Mathematics of Computation 22, 1968).

use std::cmp::Ordering;

use num_bigint::{BigInt, Sign};
use num_integer::Integer;
use num_traits::{Signed, ToPrimitive, Zero};

/// The inverse of a square matrix as `adjugate / determinant`, both integers.
pub(crate) struct Inverse {
    pub(crate) adjugate: Vec<Vec<BigInt>>,
    /// Positive: the whole is negated when it would not be.
    pub(crate) determinant: BigInt,
}

impl Inverse {
    /// `None` when the matrix is singular.
    pub(crate) fn of(matrix: &[Vec<BigInt>]) -> Option<Self> {
        let n = matrix.len();
        let mut rows = with_identity(matrix);
        let mut previous = BigInt::from(1);
        for step in 0..n {
            let pivot = (step..n).find(|&row| !rows[row][step].is_zero())?;
            rows.swap(step, pivot);
            eliminate(&mut rows, step, &previous);
            previous = rows[step][step].clone();
        }
        // Gauss-Jordan: the left half is now `previous` times the identity.
        let sign = if previous.is_negative() { -1 } else { 1 };
        let adjugate = rows.iter().map(|row| row[n..].iter().map(|entry| entry * sign).collect()).collect();
        Some(Self { adjugate, determinant: previous * sign })
    }

    /// `adjugate * vector`: the solution times the determinant.
    pub(crate) fn times(&self, vector: &[BigInt]) -> Vec<BigInt> {
        self.adjugate.iter().map(|row| dot(row, vector)).collect()
    }
}

fn with_identity(matrix: &[Vec<BigInt>]) -> Vec<Vec<BigInt>> {
    let n = matrix.len();
    let identity = |row: usize| (0..n).map(move |column| BigInt::from(u8::from(row == column)));
    matrix.iter().enumerate().map(|(i, row)| row.iter().cloned().chain(identity(i)).collect()).collect()
}

/// Clears column `step` in every other row: row <- (pivot row - row[step] pivot_row) / previous pivot.
fn eliminate(rows: &mut [Vec<BigInt>], step: usize, previous: &BigInt) {
    let pivot_row = rows[step].clone();
    let pivot = &pivot_row[step];
    for (_, row) in rows.iter_mut().enumerate().filter(|(i, _)| *i != step) {
        let factor = row[step].clone();
        for (entry, above) in row.iter_mut().zip(&pivot_row) {
            *entry = (pivot * &*entry - &factor * above) / previous;
        }
    }
}

/// Sum of products.
pub(crate) fn dot(a: &[BigInt], b: &[BigInt]) -> BigInt {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A rational number; `den` is positive.
pub(crate) struct Ratio {
    pub(crate) num: BigInt,
    pub(crate) den: BigInt,
}

impl Ratio {
    /// The nearest integer to `self * scale`, a tie to the even one.
    pub(crate) fn rounded(&self, scale: i64) -> BigInt {
        let (floor, rest) = (&self.num * scale).div_mod_floor(&self.den);
        let up = match (rest * 2u8).cmp(&self.den) {
            Ordering::Less => false,
            Ordering::Equal => floor.is_odd(),
            Ordering::Greater => true,
        };
        floor + u8::from(up)
    }

    /// The nearest integer to `sqrt(self) * scale`, a tie upwards. Zero for a negative number.
    ///
    /// floor(2 r) = isqrt(floor(4 r^2)), and rounding r is halving that.
    pub(crate) fn sqrt_rounded(&self, scale: i64) -> BigInt {
        let four_squares = (&self.num * scale * scale * 4u8).div_floor(&self.den);
        match four_squares.sign() {
            Sign::Minus => BigInt::ZERO,
            _ => (four_squares.sqrt() + 1u8) / 2u8,
        }
    }
}

/// `value` as an `i64` of the answer, or whose value does not fit.
pub(crate) fn to_i64(value: &BigInt, what: &str) -> Result<i64, String> {
    value.to_i64().ok_or_else(|| format!("expected a {what} that fits 64 bits, got {} bits", value.bits()))
}

/// `value` as a `u64` of the answer, or whose value does not fit.
pub(crate) fn to_u64(value: &BigInt, what: &str) -> Result<u64, String> {
    value.to_u64().ok_or_else(|| format!("expected a {what} that fits 64 bits, got {} bits", value.bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[&[i64]]) -> Vec<Vec<BigInt>> {
        rows.iter().map(|row| row.iter().map(|&entry| BigInt::from(entry)).collect()).collect()
    }

    fn ratio(num: i64, den: i64) -> Ratio {
        Ratio { num: num.into(), den: den.into() }
    }

    #[test]
    fn a_matrix_times_its_adjugate_is_its_determinant() {
        // The first pivot is zero: rows are swapped and the elimination ends with -1.
        let a = matrix(&[&[0, 2, 1], &[1, 1, 0], &[3, 0, -2]]);
        let inverse = Inverse::of(&a).unwrap();
        assert_eq!(inverse.determinant, BigInt::from(1));
        for (i, row) in a.iter().enumerate() {
            let columns = (0..3).map(|j| inverse.adjugate.iter().map(|r| r[j].clone()).collect::<Vec<_>>());
            let product: Vec<BigInt> = columns.map(|column| dot(row, &column)).collect();
            let want: Vec<BigInt> = (0..3).map(|j| &inverse.determinant * u8::from(i == j)).collect();
            assert_eq!(product, want);
        }
    }

    #[test]
    fn the_hilbert_matrix_has_its_known_determinant() {
        // 2520 H5, H5 = 1 / (i + j + 1): det H5 = 1 / 266716800000 (OEIS A005249).
        let rows: Vec<Vec<BigInt>> =
            (1..=5).map(|i| (0..5).map(|j| BigInt::from(2520 / (i + j))).collect()).collect();
        let inverse = Inverse::of(&rows).unwrap();
        assert_eq!(inverse.determinant * 266_716_800_000i64, BigInt::from(2520).pow(5));
    }

    #[test]
    fn a_singular_matrix_has_no_inverse() {
        assert!(Inverse::of(&matrix(&[&[1, 2], &[2, 4]])).is_none());
        assert!(Inverse::of(&matrix(&[&[0]])).is_none());
    }

    #[test]
    fn ratios_round_half_to_even() {
        let halves = [-3, -1, 1, 3, 5].map(|n| ratio(n, 2).rounded(1).to_i64().unwrap());
        assert_eq!(halves, [-2, 0, 0, 2, 2]);
        assert_eq!(ratio(-2, 3).rounded(1000), BigInt::from(-667));
    }

    #[test]
    fn roots_are_the_nearest_integers() {
        // sqrt 2 = 1.41421356237..., sqrt (9/4) = 1.5 is a tie and goes up.
        assert_eq!(ratio(2, 1).sqrt_rounded(1_000_000_000), BigInt::from(1_414_213_562));
        let roots = [0, 1, 2, 3, 6, 7, 12, 13].map(|n| ratio(n, 1).sqrt_rounded(1).to_i64().unwrap());
        assert_eq!(roots, [0, 1, 1, 2, 2, 3, 3, 4]);
        assert_eq!(ratio(9, 4).sqrt_rounded(1), BigInt::from(2));
        assert_eq!(ratio(-1, 4).sqrt_rounded(1), BigInt::ZERO);
    }

    #[test]
    fn what_does_not_fit_is_said() {
        assert_eq!(
            to_i64(&BigInt::from(u64::MAX), "level"),
            Err("expected a level that fits 64 bits, got 64 bits".into())
        );
        assert_eq!(to_u64(&BigInt::from(u64::MAX), "sum"), Ok(u64::MAX));
    }
}
