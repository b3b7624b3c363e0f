//! The quantile of a Beta distribution.

/// Both parameters: where Lee et al. 2024, arXiv 2407.12173, found the best spread of noise levels.
const A: f64 = 0.6;
/// The Beta function at `(A, A)`.
const NORM: f64 = 2.415_344_208_002_472_3;

/// Where the distribution function of Beta(0.6, 0.6) is `p`.
pub(super) fn beta(p: f64) -> f64 {
    // It is symmetric, and the series below converges on its lower half.
    if p > 0.5 {
        return 1.0 - lower(1.0 - p);
    }
    lower(p)
}

/// Newton's method in `y = x^A`, in which the function is nearly a line through 0.
fn lower(p: f64) -> f64 {
    let mut y = p * A * NORM;
    for _ in 0..MOST_ITERATIONS {
        let x = libm::pow(y, 1.0 / A);
        let slope = libm::pow(1.0 - x, A - 1.0) / (A * NORM);
        let step = (y / NORM * series(x) - p) / slope;
        y -= step;
        if step.abs() <= 1e-14 * y {
            break;
        }
    }
    libm::pow(y, 1.0 / A)
}

const MOST_ITERATIONS: usize = 8;

/// The incomplete Beta function over `x^A`: the sum of `(1 - A)_n / n! * x^n / (A + n)`, for `x` up to about a half.
fn series(x: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0 / A, 1.0, 0.0);
    while term > 1e-17 {
        term *= (n + 1.0 - A) / (n + 1.0) * x;
        n += 1.0;
        sum += term / (A + n);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.beta.ppf(p, 0.6, 0.6)`, SciPy 1.17.1.
    #[test]
    fn quantiles_are_those_of_scipy() {
        for (p, expected) in [
            (0.0, 0.0),
            (1e-06, 1.8558824624053043e-10),
            (0.001, 1.855873851745199e-05),
            (0.14285714285714285, 0.07114202617035977),
            (0.25, 0.17568037865269498),
            (0.5, 0.5000000000000001),
            (0.61, 0.6506988426928272),
            (0.9, 0.9604155944112192),
            (0.999, 0.9999814412614826),
            (1.0, 1.0),
        ] {
            let found = beta(p);
            assert!((found - expected).abs() <= 1e-13 * expected, "{p}: {found} {expected}");
        }
    }
}
