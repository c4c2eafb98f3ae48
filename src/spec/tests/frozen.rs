//! Frozen specs of this version, of earlier and of later ones.

use super::*;
use crate::spec::frozen::{ADDED, VERSION};

/// A run's spec as the first version wrote it, and as version 2 did.
const FIRST: &str = include_str!("testdata/frozen-1.yaml");
const SECOND: &str = include_str!("testdata/frozen-2.yaml");

/// The first line of those that this program writes.
fn current() -> String {
    format!("version: {VERSION}\n")
}

fn read(text: &str) -> Result<Spec, String> {
    let directory = Directory::new(&[("spec.yaml", text.as_bytes())]);
    Spec::read_frozen(&directory.path("spec.yaml")).map_err(|error| directory.message(&error))
}

#[test]
fn frozen_spec_is_read_back_bit_for_bit() {
    let directory = Directory::new(&[]);
    let path = directory.path("spec.yaml");
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for round in 0..300 {
        let mut spec = Spec::default();
        if round > 0 {
            let text: String = rng
                .clone()
                .random_iter()
                .take(round % 20)
                .collect::<Vec<char>>()
                .into_iter()
                .collect();
            spec.description = text.replace(char::is_control, " ");
            spec.data.folder =
                PathBuf::from(["5", "null", " x ", "a: b", "~", "0x1", "- a", "1e400"][round % 8]);
            spec.seed = Seed(rng.random());
            spec.network.norm.alpha = rng.random::<f64>() * 1e-3;
            spec.network.conv1.stddev = 10f64.powf(rng.random_range(-300.0..3.0));
            spec.network.conv1.bias = rng.random_range(-1000.0..1000.0);
            spec.input.brightness = rng.random_range(0.0..255.0);
            spec.input.contrast.lower = rng.random_range(0.0..1.0);
        }
        fs::write(&path, spec.to_frozen_yaml().unwrap()).unwrap();
        assert_eq!(Spec::read_frozen(&path).unwrap(), spec);
    }
}

#[test]
fn spec_that_could_not_be_read_back_is_not_frozen() {
    let spec = Spec {
        description: "long ".repeat(20_000),
        ..Spec::default()
    };
    let error = spec.to_frozen_yaml().unwrap_err();
    assert!(is_user_error(&error), "{error:#}");
}

#[test]
fn frozen_spec_must_be_resolved_and_whole() {
    let directory = Directory::new(&[("spec.yaml", b"extends: x\n"), ("empty.yaml", b"\n")]);
    for (name, message) in [
        (
            "spec.yaml",
            "experiments/spec.yaml:1:10: extends: got \"x\", want a resolved spec, which extends nothing",
        ),
        (
            "empty.yaml",
            "experiments/empty.yaml: got an empty file, want a run's resolved spec",
        ),
    ] {
        let error = Spec::read_frozen(&directory.path(name)).unwrap_err();
        assert_eq!(directory.message(&error), message);
    }
}

/// A new field makes a new version: with the version of before, no run that there is could be read. So of each version since the
/// sixth a file is kept as it was when the version was new. `WRITE_DOCS=1` writes that of a new version, and replaces none.
#[test]
fn frozen_specs_of_all_versions_are_read_as_they_were_written() {
    for version in 6..=VERSION {
        let name = format!("src/spec/tests/testdata/frozen-{version}.yaml");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        if std::env::var_os("WRITE_DOCS").is_some() && version == VERSION && !path.exists() {
            fs::write(&path, Spec::default().to_frozen_yaml().unwrap()).unwrap();
        }
        let read = Spec::read_frozen(&path);
        let read = read.unwrap_or_else(|error| {
            panic!("{name}: {error:#}; a new field needs a new VERSION in src/spec/frozen.rs, and `make docs` writes its file")
        });
        let read = read.to_json().unwrap();
        let stated: serde_json::Value =
            serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for field in Field::all() {
            let added = ADDED
                .iter()
                .find(|(added, since, _)| *added == field.path && *since > version);
            let want = match added {
                Some((_, _, before)) => serde_yaml::from_str(before).unwrap(),
                None => field.value(&stated).cloned().unwrap_or_default(),
            };
            let got = field.value(&read).cloned().unwrap_or_default();
            assert_eq!(got, want, "{name}: {}", field.path);
        }
    }
}

#[test]
fn frozen_spec_of_the_first_version_means_what_the_program_did_then() {
    let spec = read(FIRST).unwrap();
    let mut want = read(SECOND).unwrap();
    want.description = "a run of the first version".into();
    want.compute.precision = Precision::Tf32Conv;
    want.train.keep_best = false;
    want.train.restarts = 0;
    want.eval.policy = Policy::Latest;
    assert_eq!(spec, want);
    let train = &spec.train;
    let cadences = [
        train.scalars_every,
        train.histograms_every,
        train.images_every,
    ];
    assert_eq!(cadences, [50; 3]); // its summary_every
}

#[test]
fn frozen_spec_has_steps_or_epochs() {
    let spec = read(&SECOND.replace("  steps: 300\n", "  epochs: 2.5\n")).unwrap();
    assert_eq!((spec.train.steps, spec.train.epochs), (None, Some(2.5)));
    assert_eq!(read(&spec.to_frozen_yaml().unwrap()), Ok(spec));
    let neither = read(&SECOND.replace("  steps: 300\n", "")).unwrap_err();
    assert!(neither.contains(": train.steps: got nothing"), "{neither}");
}

#[test]
fn frozen_spec_keeps_the_fields_that_it_has_whatever_its_version() {
    let unversioned = SECOND.strip_prefix("version: 2\n").unwrap();
    assert_eq!(read(unversioned), read(SECOND));
    let later = FIRST.replace("  batch_size: 128\n", "  batch_size: 128\n  restarts: 5\n");
    let spec = read(&later).unwrap();
    assert_eq!((spec.train.restarts, spec.train.keep_best), (5, false));
}

#[test]
fn frozen_spec_of_version_3_from_before_the_section_stop_is_read() {
    let spec = Spec::default();
    let mut yaml = spec.to_frozen_yaml().unwrap();
    yaml = yaml.replace(&current(), "version: 3\n");
    yaml = yaml.replace("  deterministic: false\n", "");
    yaml = yaml.replace("  elastic: false\n", "");
    yaml = yaml.replace("  process_group: auto\n", "");
    yaml = yaml.replace("  reduce_precision: float32\n", "");
    let (begin, end) = (yaml.find("stop:\n").unwrap(), yaml.find("eval:\n").unwrap());
    yaml.replace_range(begin..end, "");
    assert_eq!(read(&yaml).unwrap(), spec);
}

#[test]
fn frozen_spec_of_version_3_from_before_several_devices_is_read() {
    let spec = Spec::default();
    let yaml = spec.to_frozen_yaml().unwrap();
    let mut yaml = yaml.replace(&current(), "version: 3\n");
    let mut json = spec.to_frozen_json().unwrap();
    json["version"] = 3.into();
    for (section, key, line) in [
        ("compute", "devices", "  devices: []\n"),
        ("compute", "timeout_secs", "  timeout_secs: 60\n"),
        ("compute", "elastic", "  elastic: false\n"),
        ("compute", "process_group", "  process_group: auto\n"),
        (
            "compute",
            "reduce_precision",
            "  reduce_precision: float32\n",
        ),
        ("eval", "device", "  device: auto\n"),
    ] {
        let at = yaml.find(&format!("\n{section}:\n")).unwrap();
        let at = at + yaml[at..].find(line).unwrap();
        yaml.replace_range(at..at + line.len(), "");
        json[section].as_object_mut().unwrap().remove(key).unwrap();
    }
    assert_eq!(read(&yaml).unwrap(), spec);
    let fields = Spec::fields_of_frozen_json(Path::new("provenance.json"), json).unwrap();
    assert_eq!(fields, spec.to_json().unwrap());
}

/// Fails when a new field has no line in the table of added ones.
#[test]
fn frozen_spec_that_lacks_a_field_of_its_version_is_refused() {
    for text in [FIRST, SECOND] {
        read(text).unwrap();
        assert_eq!(
            read(&text.replace("  log_every: 10\n", "")).unwrap_err(),
            "experiments/spec.yaml: train.log_every: got nothing, want a whole number from 1 to 1000000000, as a \
             run's spec has every field"
        );
    }
    let incomplete = SECOND.replace("  restarts: 3\n", "");
    assert!(
        read(&incomplete)
            .unwrap_err()
            .contains("train.restarts: got nothing")
    );
}

#[test]
fn frozen_spec_of_a_later_version_or_with_an_unknown_field_is_refused() {
    let later = VERSION + 1;
    let text = SECOND.replace("version: 2", &format!("version: {later}"));
    assert_eq!(
        read(&text).unwrap_err(),
        format!(
            "experiments/spec.yaml:1:10: version: got {later}, want a version from 1 to {VERSION} (a newer runboard reads later ones)"
        )
    );
    let unknown = read(&SECOND.replace("  restarts: 3", "  restart: 3")).unwrap_err();
    assert!(
        unknown.contains("train.restart: unknown key, want one of "),
        "{unknown}"
    );
    // The old name and one of those that it stands for.
    let twice = FIRST.replace("summary_every: 50", "summary_every: 50\n  images_every: 5");
    assert!(read(&twice).unwrap_err().contains("got this key twice"));
}

#[test]
fn experiment_may_be_a_copy_of_a_frozen_spec_but_has_no_old_names() {
    let directory = Directory::new(&[("copy.yaml", SECOND.as_bytes())]);
    // What it lacks is today's.
    let mut want = read(SECOND).unwrap();
    want.train.divergence_factor = Spec::default().train.divergence_factor;
    assert_eq!(directory.load("copy", &[]), Ok(want));
    assert!(bad(FIRST).contains("train.summary_every: unknown key"));
    assert_eq!(
        bad_set("version=2"),
        "--set version=2: got an override, want it in a file"
    );
}

#[test]
fn frozen_spec_has_its_version_in_the_first_line_and_nowhere_else() {
    let spec = Spec::default();
    let yaml = spec.to_yaml().unwrap();
    assert_eq!(spec.to_frozen_yaml().unwrap(), current() + &yaml);
    assert!(!yaml.contains("version"));
}
