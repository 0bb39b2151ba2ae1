//! Gives the shared library the name that programs linked against the C library look for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libjlog.so.2");
}
