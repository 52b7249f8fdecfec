//! Tests of the parts with each other, and of each against the vectors.

pub(super) mod fixture;
mod random;
mod vectors;
