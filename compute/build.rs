//! Compiles the C++ of src/backend, and writes libtorch's places into the binary, so that it starts from any
//! directory and with the libtorch that it was built for, also where it was installed or its clone was moved.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    // Without it torch-sys uses a system-wide libtorch, which the loader finds by itself.
    let libtorch = env::var_os("LIBTORCH").unwrap_or_default();
    println!(
        "cargo:rustc-env=RUNBOARD_LIBTORCH={}",
        version(Path::new(&libtorch))
    );
    let place = match libtorch.is_empty() {
        true => Path::new("/usr"),
        false => Path::new(&libtorch),
    };
    // burn-tch looks when it is built, and panics at the first tensor on a GPU where it found none.
    println!(
        "cargo:rustc-env=RUNBOARD_FOR_GPUS={}",
        place.join("lib/libtorch_cuda.so").exists()
    );
    println!(
        "cargo:rustc-env=RUNBOARD_TARGET_FEATURES={}",
        env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default()
    );
    if libtorch.is_empty() {
        compile(Path::new("/usr"));
        return;
    }
    let lib = Path::new(&libtorch).join("lib");
    if !lib.join("libtorch.so").exists() {
        println!(
            "cargo:warning=no libtorch in {}; run `make setup` first",
            lib.display()
        );
        return;
    }
    compile(Path::new(&libtorch));
    // RPATH, which the loader searches before LD_LIBRARY_PATH. The linker's default, RUNPATH, comes after it, and
    // another program's libtorch there would be taken for this one (https://man7.org/linux/man-pages/man8/ld.so.8.html).
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    for place in places(Path::new(&libtorch)) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", place.display());
    }
}

/// libtorch's process groups and its settings as C functions. The libraries that they need are those that torch-sys names.
fn compile(libtorch: &Path) {
    let group = Path::new("src/backend/group");
    let sources = [
        group.join("c10d.cpp"),
        "src/backend/context.cpp".into(),
        "src/backend/gpu.cpp".into(),
    ];
    let headers = [group.join("gloo"), "src/backend/guarded.hpp".into()];
    for source in sources.iter().chain(&headers) {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(1);
    // Where libtorch's headers ask for Gloo's, which it does not have.
    build.define("USE_C10D_GLOO", None).include(group);
    let include = libtorch.join("include");
    for headers in [&include, &include.join("torch/csrc/api/include")] {
        // The system's own are found without, and g++ must not be told of them.
        if headers != Path::new("/usr/include") {
            build.flag(format!("-isystem{}", headers.display())); // which leaves out warnings of theirs
        }
    }
    build.files(sources).compile("runboard_libtorch");
}

/// The directories to look for libtorch in, in this order; the loader replaces `$ORIGIN` by the binary's.
fn places(libtorch: &Path) -> Vec<PathBuf> {
    // First: from where a program was installed, the next one is a directory that is none of ours.
    let mut places = vec![PathBuf::from("$ORIGIN/../lib/runboard")];
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let own = Path::new(&package).join("../libtorch");
    let same = |one: &Path, other: &Path| {
        let (one, other) = (one.canonicalize(), other.canonicalize());
        one.is_ok_and(|one| other.is_ok_and(|other| one == other))
    };
    // `build` is what tools/setup.py shows crates of it, and nothing to run with.
    if same(&own.join("build"), libtorch) || same(&own, libtorch) {
        places.push(PathBuf::from("$ORIGIN/../../libtorch/lib")); // from target/release
        places.push(own.canonicalize().unwrap_or(own).join("lib"));
    } else {
        places.push(libtorch.join("lib"));
    }
    places
}

/// The version in libtorch's header, for a run's provenance.
fn version(libtorch: &Path) -> String {
    let header = libtorch.join("include/torch/headeronly/version.h");
    let text = fs::read_to_string(header).unwrap_or_default();
    let quoted = text.lines().find_map(|line| line.trim().strip_prefix('"'));
    let version = quoted.map(|rest| rest.trim_end_matches('"'));
    version.unwrap_or("unknown").to_owned()
}
