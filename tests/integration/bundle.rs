//! What `make bundle` packs, unpacked elsewhere and used as on a machine that has neither cargo nor this clone.

use crate::support::{Done, RUNBOARD, libtorch, names, runboard_compute};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A bundle that was unpacked in a directory with a space in its name, and what else is on its machine.
struct Machine {
    place: tempfile::TempDir,
    bundle: PathBuf,
}

impl Machine {
    /// Packs, and unpacks with the machine's own tar.
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        runboard_compute(); // which is packed too
        let out = place.path().join("out");
        let mut pack = Command::new("python3");
        pack.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bundle.py"));
        let done = Done::of(pack.arg(RUNBOARD).arg(&out).output().unwrap());
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
        let [name, packed] = <[String; 2]>::try_from(names(&out)).unwrap();
        assert_eq!(packed, format!("{name}.tar.gz"));
        assert_eq!(
            names(&out.join(&name)),
            [
                "CHANGELOG.md",
                "LICENSE",
                "LICENSE-APACHE",
                "LICENSE-MIT",
                "README.md",
                "SHA256SUMS",
                "THIRD-PARTY",
                "benches",
                "bundle.json",
                "docs",
                "experiments",
                "runboard",
                "runboard-compute"
            ]
        );
        let elsewhere = place.path().join("some where");
        fs::create_dir(&elsewhere).unwrap();
        let mut unpack = Command::new("tar");
        unpack.arg("xzf").arg(out.join(packed));
        assert!(unpack.current_dir(&elsewhere).status().unwrap().success());
        fs::remove_dir_all(&out).unwrap();
        let bundle = elsewhere.join(name);
        Machine { place, bundle }
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.place.path().join(relative)
    }

    /// A python3 whose package torch is of this version and has the libraries of the libtorch that runboard was built for.
    fn add_python(&self, name: &str, version: &str) -> PathBuf {
        let torch = self.path(&format!("{name}/site/torch"));
        fs::create_dir_all(&torch).unwrap();
        symlink(libtorch(), torch.join("lib")).unwrap();
        // Nothing must import it, which would take seconds.
        fs::write(torch.join("__init__.py"), "raise SystemExit(9)\n").unwrap();
        let said = format!("__version__ = '{version}'\n");
        fs::write(torch.join("version.py"), said).unwrap();
        let directory = self.path(&format!("{name}/bin"));
        fs::create_dir(&directory).unwrap();
        let script = format!(
            "#!/bin/sh\nPYTHONPATH='{}' exec '{}' \"$@\"\n",
            self.path(&format!("{name}/site")).display(),
            interpreter(),
        );
        let python = directory.join("python3");
        fs::write(&python, script).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        directory
    }

    /// runboard of the bundle in a directory of its user, with these directories alone to look for programs in.
    fn command(&self, path: &[&Path], arguments: &[&str]) -> Command {
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        let mut command = Command::new(self.bundle.join("runboard"));
        command
            .args(arguments)
            .current_dir(&home)
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("RUNBOARD_SLOTS", home.join("slots"));
        command
    }

    fn runboard(&self, path: &[&Path], arguments: &[&str]) -> Done {
        Done::of(self.command(path, arguments).output().unwrap())
    }
}

/// The python3 of this machine itself, as one on the PATH may be a script that looks for it.
fn interpreter() -> String {
    let mut ask = Command::new("python3");
    ask.args(["-c", "import sys; print(sys.executable)"]);
    Done::of(ask.output().unwrap()).out.trim().to_owned()
}

#[test]
fn bundle_trains_with_the_package_of_a_python3_and_needs_nothing_else() {
    let machine = Machine::new();
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--quiet", "SHA256SUMS"]);
    let done = Done::of(sums.current_dir(&machine.bundle).output().unwrap());
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    let about = fs::read(machine.bundle.join("bundle.json")).unwrap();
    let about: Value = serde_json::from_slice(&about).unwrap();
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["libtorch"], "2.11.0");
    assert_eq!(about["libtorch_packed"], Value::Null);
    assert!(
        about["target_features"]
            .as_array()
            .unwrap()
            .contains(&"sse2".into())
    );

    // The first python3 has none, the second another version: the third serves.
    let bare = machine.path("bare");
    fs::create_dir(&bare).unwrap();
    symlink(interpreter(), bare.join("python3")).unwrap();
    let old = machine.add_python("old", "2.9.1+cpu");
    let good = machine.add_python("good", "2.11.1+cu130");
    let path = [&*bare, &*old, &*good];
    let run = [
        "run",
        "quickstart",
        "--set=train.steps=4",
        "--set=train.checkpoint_every=2",
        "--set=data.synthetic={train_images: 510, test_images: 100}",
    ];
    let done = machine.runboard(&path, &run);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    assert_eq!(names(&machine.path("home")), ["data", "runs"]);
    // What does not compute asks for no libtorch.
    let done = machine.runboard(&[], &["show", "quickstart", "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let shown: Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(shown["state"], "finished");
    assert_eq!(shown["evaluations"].as_array().unwrap().len(), 3); // of steps 0, 2 and 3
}

#[test]
fn bundle_says_how_it_gets_a_libtorch_where_there_is_none_of_its_version() {
    let machine = Machine::new();
    let check = ["check", "quickstart"];
    let packed = machine.bundle.join("libtorch");
    let wanted = format!(
        "; want one of these: the variable LIBTORCH set to the directory of one, a python3 on the PATH with its package \
         (`pip install torch==2.11.0`), or {}, which `make bundle BUNDLE=full` packs\n",
        packed.display()
    );
    let fails = |command: &mut Command, error: &str| {
        let done = Done::of(command.output().unwrap());
        assert_eq!(done.err, format!("error: {error}"));
        assert_eq!(done.code, Some(2));
        assert_eq!(done.out, "");
    };
    let none = "no libtorch 2.11, which training and evaluation need";
    fails(
        &mut machine.command(&[], &check),
        &format!("{none}{wanted}"),
    );
    let run = ["run", "quickstart"];
    fails(&mut machine.command(&[], &run), &format!("{none}{wanted}"));
    assert_eq!(names(&machine.path("home")), [""; 0]);
    let done = machine.runboard(&[], &["doctor", "--json"]);
    let found: Value = serde_json::from_str(&done.out).unwrap();
    let mut findings = found["findings"].as_array().unwrap().iter();
    let looked_for = findings.find(|it| it["name"] == "libtorch").unwrap();
    assert_eq!((done.code, &looked_for["found"]), (Some(1), &none.into()));
    assert_eq!(findings.next().unwrap()["name"], "driver");
    let advice = looked_for["advice"].as_str().unwrap();
    assert!(advice.starts_with("want one of these: "), "{advice}");
    let old = machine.add_python("old", "2.9.1+cpu");
    let had = format!(
        "{none}: {}/python3 has torch 2.9.1+cpu{wanted}",
        old.display()
    );
    fails(&mut machine.command(&[&old], &check), &had);

    let named = |directory: &Path| {
        let mut command = machine.command(&[&old], &check);
        command.env("LIBTORCH", directory);
        command
    };
    let nothing = machine.path("nothing");
    let error = format!(
        "LIBTORCH: no lib/libtorch_cpu.so in {}; want the directory of a libtorch 2.11, or the variable unset\n",
        nothing.display()
    );
    fails(&mut named(&nothing), &error);
    let torch = machine.path("old/site/torch");
    let error = format!(
        "LIBTORCH: {} has libtorch 2.9.1+cpu; want 2.11, for which this runboard was built, or the variable unset\n",
        torch.display()
    );
    fails(&mut named(&torch), &error);

    // What lies beside the programs serves, and what LIBTORCH names does before it.
    fs::create_dir(&packed).unwrap();
    symlink(libtorch(), packed.join("lib")).unwrap();
    let done = machine.runboard(&[&old], &check);
    assert_eq!(done.code, Some(0), "{}", done.err);
    fails(&mut named(&torch), &error);
    fs::write(torch.join("version.py"), "__version__ = '2.11.0'\n").unwrap();
    let done = Done::of(named(&torch).output().unwrap());
    assert_eq!(done.code, Some(0), "{}", done.err);

    // What a copy that broke off leaves is to be unpacked anew.
    let program = machine.bundle.join("runboard-compute");
    fs::rename(&program, machine.path("program")).unwrap();
    let error = format!(
        "no program {}, which trains and evaluates; want it beside {}: unpack the bundle anew\n",
        program.display(),
        machine.bundle.join("runboard").display()
    );
    fails(&mut machine.command(&[], &check), &error);
    fs::rename(machine.path("program"), &program).unwrap();
    let about = machine.bundle.join("bundle.json");
    fs::write(&about, "{").unwrap();
    let error = format!(
        "{}: EOF while parsing an object at line 1 column 1; want the file that was packed: unpack the bundle anew\n",
        about.display()
    );
    fails(&mut machine.command(&[], &check), &error);
}
