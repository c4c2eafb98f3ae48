//! Eigenvalues and eigenvectors of a symmetric matrix, by Jacobi's rotations.
//!
//! Source: Golub and Van Loan, Matrix Computations, 8.5. libtorch has a faster function, whose last bits depend on the
//! processor; initial weights follow from seed and images alone.

/// Sweeps over all pairs of rows after which it stops in any case; ten are enough for what is seen in practice.
const MAX_SWEEPS: usize = 50;

/// The sum of the squares off the diagonal, as a share of all squares, that counts as none.
const NEGLIGIBLE: f64 = 1e-30;

/// Eigenvalues from the largest to the smallest, and of each the eigenvector of length 1 whose component of largest
/// magnitude is positive. `matrix` is [n, n], row by row.
///
/// # Panics
/// If `matrix` is of another size.
pub(super) fn eigenvectors(mut matrix: Vec<f64>, n: usize) -> Vec<(f64, Vec<f64>)> {
    assert_eq!(matrix.len(), n * n, "values of a square matrix");
    let mut vectors = vec![0.0; n * n];
    vectors.iter_mut().step_by(n + 1).for_each(|it| *it = 1.0);
    let squares = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
    let total = squares(&matrix);
    for _ in 0..MAX_SWEEPS {
        let above = (0..n).map(|row| squares(&matrix[row * n + row + 1..(row + 1) * n]));
        if above.sum::<f64>() <= NEGLIGIBLE * total {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut matrix, &mut vectors, n, p, q);
            }
        }
    }
    let mut pairs: Vec<(f64, Vec<f64>)> = (vectors.chunks_exact(n).enumerate())
        .map(|(row, vector)| (matrix[row * n + row], with_positive_sign(vector)))
        .collect();
    pairs.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    pairs
}

/// Make the matrix zero at (p, q) by a rotation of rows and columns p and q; the rows of `vectors` take part.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = matrix[p * n + q];
    if off == 0.0 {
        return;
    }
    let (first, last) = (matrix[p * n + p], matrix[q * n + q]);
    let cotangent = (last - first) / (2.0 * off); // of twice the angle
    let tangent = cotangent.signum() / (cotangent.abs() + cotangent.hypot(1.0));
    let cosine = 1.0 / tangent.hypot(1.0);
    let sine = tangent * cosine;
    for values in [&mut *matrix, vectors] {
        let (before, after) = values.split_at_mut(q * n);
        for (x, y) in before[p * n..][..n].iter_mut().zip(&mut after[..n]) {
            (*x, *y) = (cosine * *x - sine * *y, sine * *x + cosine * *y);
        }
    }
    // The columns are the rows, but for the four values where they meet.
    for k in 0..n {
        matrix[k * n + p] = matrix[p * n + k];
        matrix[k * n + q] = matrix[q * n + k];
    }
    matrix[p * n + p] = first - tangent * off;
    matrix[q * n + q] = last + tangent * off;
    matrix[p * n + q] = 0.0;
    matrix[q * n + p] = 0.0;
}

fn with_positive_sign(vector: &[f64]) -> Vec<f64> {
    let largest = vector.iter().copied().fold(0.0, |largest: f64, value| {
        if value.abs() > largest.abs() {
            value
        } else {
            largest
        }
    });
    vector
        .iter()
        .map(|value| value * largest.signum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_of_a_small_matrix_are_numpys() {
        // numpy.linalg.eigh([[4, 1, -2], [1, 2, 0], [-2, 0, 3]])
        let matrix = vec![4.0, 1.0, -2.0, 1.0, 2.0, 0.0, -2.0, 0.0, 3.0];
        let want = [
            (5.73205081, [0.78867513, 0.21132487, -0.57735027]),
            (2.26794919, [0.21132487, 0.78867513, 0.57735027]),
        ];
        let pairs = eigenvectors(matrix, 3);
        for ((value, vector), (want, direction)) in pairs.iter().zip(want) {
            assert!((value - want).abs() < 1e-8);
            for (component, want) in vector.iter().zip(direction) {
                assert!((component - want).abs() < 1e-8);
            }
        }
        // All components of the last one are of one magnitude.
        assert!((pairs[2].0 - 1.0).abs() < 1e-12);
        assert!(
            pairs[2]
                .1
                .iter()
                .all(|it| (it.abs() - 0.57735027).abs() < 1e-8)
        );
    }

    #[test]
    fn eigenvectors_diagonalise_a_large_matrix_with_the_eigenvalues_that_are_known() {
        // Of the matrix with 2 on the diagonal and -1 beside it they are 2 - 2 cos(k pi / (n + 1)).
        let n = 40;
        let mut matrix = vec![0.0; n * n];
        for row in 0..n {
            matrix[row * n + row] = 2.0;
            if row > 0 {
                matrix[row * n + row - 1] = -1.0;
                matrix[(row - 1) * n + row] = -1.0;
            }
        }
        let pairs = eigenvectors(matrix, n);
        assert_eq!(pairs.len(), n);
        for (index, (value, vector)) in pairs.iter().enumerate() {
            let k = (n - index) as f64;
            let want = 2.0 - 2.0 * (k * std::f64::consts::PI / (n as f64 + 1.0)).cos();
            assert!((value - want).abs() < 1e-12);
            for (row, component) in vector.iter().enumerate() {
                let beside = [row.checked_sub(1), Some(row + 1).filter(|&next| next < n)];
                let beside: f64 = beside.into_iter().flatten().map(|at| vector[at]).sum();
                assert!((2.0 * component - beside - value * component).abs() < 1e-12);
            }
            for (other, (_, with)) in pairs.iter().enumerate() {
                let product: f64 = vector
                    .iter()
                    .zip(with)
                    .map(|(one, other)| one * other)
                    .sum();
                assert!((product - f64::from(u8::from(other == index))).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn eigenvectors_of_a_diagonal_matrix_are_the_axes_and_of_zeros_too() {
        let pairs = eigenvectors(vec![1.0, 0.0, 0.0, 3.0], 2);
        assert_eq!(pairs, [(3.0, vec![0.0, 1.0]), (1.0, vec![1.0, 0.0])]);
        let pairs = eigenvectors(vec![0.0; 4], 2);
        assert_eq!(pairs, [(0.0, vec![1.0, 0.0]), (0.0, vec![0.0, 1.0])]);
    }
}
