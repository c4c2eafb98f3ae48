//! Newton and Schulz's iteration, with which Muon orthogonalises a matrix X: all of its singular values are driven towards 1.
//!
//! Source: Keller Jordan, <https://kellerjordan.github.io/posts/muon/> and the function `zeropower_via_newtonschulz5`
//! of <https://github.com/KellerJordan/Muon>. His is in bfloat16 and on X itself; this is in float32, in the form of Zhang,
//! Amsel, Chen and Dao, <https://dao-lab.ai/blog/2026/gram-newton-schulz>: with G = X X^T a step is X' = P X,
//! P = a I + b G + c G^2, and G' = P G P. All of them are polynomials of the first G, so the steps need X only at their beginning and at
//! their end: X becomes Q X, Q the product of all P. For local3, six times as wide as high, that takes 0.44 of the operations
//! of the iteration on X, and 0.30 of them where symmetric products are computed by half (`cpu/orthogonal.rs`).

/// a, b and c of the polynomial a x + b x^3 + c x^5 of the singular values.
pub const COEFFICIENTS: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);

/// How often it is applied.
pub const STEPS: usize = 5;

/// Added to X's norm, by which it is divided before.
pub const EPSILON: f64 = 1e-7;
