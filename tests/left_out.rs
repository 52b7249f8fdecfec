//! Tells which tests are not among the others of this run, and what they need, as tests that are ignored.

#[test]
#[ignore = "a package of their own: cargo test --manifest-path tests/interop/Cargo.toml"]
fn the_published_rust_package_and_tokio() {
    panic!("they are not here");
}

#[test]
#[ignore = "packages of their own: cargo test --manifest-path examples/falco/Cargo.toml, and examples/typed_service"]
fn falco_and_the_typed_service() {
    panic!("they are not here");
}

#[test]
#[ignore = "under a model checker: RUSTFLAGS='--cfg shuttle' cargo test --lib --target-dir target/shuttle models"]
fn the_hand_overs_between_threads() {
    panic!("they are compiled in another way");
}

#[cfg(not(feature = "forward-secrecy"))]
#[test]
#[ignore = "need the feature forward-secrecy"]
fn forward_secret_sessions_and_those_of_kv_store() {
    panic!("they are not compiled");
}

#[cfg(not(feature = "r2d2"))]
#[test]
#[ignore = "need the feature r2d2"]
fn pools() {
    panic!("they are not compiled");
}

#[cfg(not(feature = "proxy-protocol"))]
#[test]
#[ignore = "need the feature proxy-protocol, and one of them haproxy"]
fn load_balancers() {
    panic!("they are not compiled");
}

#[cfg(not(feature = "aws-lc-rs"))]
#[test]
#[ignore = "run with the feature aws-lc-rs, and a C compiler"]
fn the_same_with_the_cipher_of_aws_lc() {
    panic!("this is the pure Rust one");
}
