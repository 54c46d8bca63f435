//! Compiles the public contract and passes LibTorch's folder to the linker.

fn main() {
}
