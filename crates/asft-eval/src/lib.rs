//! asft-eval
