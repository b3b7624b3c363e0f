//! On a system's target, `main` is called by the C library's start-up code; on bare metal it is where the image begins.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let bare = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    println!("cargo:rustc-link-arg-bins={}", if bare { "--entry=main" } else { "-lc" });
}
