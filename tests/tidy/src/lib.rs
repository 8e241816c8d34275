//! The rules of the house, kept by tests: who may import what, which crates are pure, and the
//! shape of the tree. The rules themselves are in `tests/layers.rs` and `tests/tree.rs`.
