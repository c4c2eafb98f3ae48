//! Random experiments: edited files that extend each other, and random overrides.

use super::*;
use crate::spec::{constraints, fields};
use crate::testing::fuzz::{check, edited_text, pick};
use crate::testing::heap::within;
use crate::user_error;

/// Lies beside the directory of the experiments, where no `extends` reaches.
const SECRET: &str = "outside";

/// 64 KiB of YAML become a few hundred bytes an event.
const MEMORY: usize = 128 << 20;

const WORDS: &[&[u8]] = &[
    b": ",
    b"- ",
    b"\n",
    b"\n\n",
    b"  ",
    b"&a ",
    b"*a",
    b"{",
    b"}",
    b"[",
    b"]",
    b"!t ",
    b"!!str ",
    b"\"",
    b"'",
    b"~",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x1b[2J",
    b"\0",
    b"|\n",
    b">-\n",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"? ",
    b"<<: *a",
    b"# ",
    b"\t",
    b"\r",
    b"train:",
    b"seed: 5",
    b"extends: f1",
    b"extends: ../outside",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
];

/// What an experiment may be called, and what not; the first four are there.
const NAMES: [&str; 16] = [
    "f0",
    "f1",
    "f2",
    "f3",
    "f1.yaml",
    "F1",
    "f 1",
    "../outside",
    "../outside.yaml",
    "a/../../outside",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "",
    "f1\0",
    "\u{e9}",
];

struct Case {
    name: &'static str,
    files: Vec<Vec<u8>>,
    set: Vec<String>,
}

impl Case {
    fn random(rng: &mut ChaCha8Rng, texts: &[Vec<u8>]) -> Self {
        let name = match rng.random_range(0..10) {
            0 => pick(rng, &NAMES),
            _ => "f0",
        };
        let file = |rng: &mut ChaCha8Rng| {
            let mut file = match rng.random_range(0..10) {
                0..3 => String::new(),
                9 => format!("extends: {:?}\n", pick(rng, &NAMES)),
                _ => format!("extends: {}\n", pick(rng, &NAMES[..4])),
            }
            .into_bytes();
            let text = pick(rng, texts);
            file.extend(edited_text(rng, &text, WORDS));
            file
        };
        let files = (0..rng.random_range(1..5)).map(|_| file(rng)).collect();
        let set = (0..rng.random_range(0..3)).map(|_| set(rng)).collect();
        Case { name, files, set }
    }
}

/// `PATH=VALUE`, mostly of a field that there is.
fn set(rng: &mut ChaCha8Rng) -> String {
    let fields: Vec<&str> = fields::paths().collect();
    let field = pick(rng, &fields);
    let section = field.split('.').next().unwrap();
    let strange = pick(
        rng,
        &[
            "extends",
            "a..b",
            "train.steps.x",
            "data.synthetic",
            "\u{1b}",
        ],
    );
    let path = pick(
        rng,
        &[field, field, field, field, field, field, section, strange],
    );
    let words = [
        "true",
        "auto",
        "cuda:127",
        "synthetic",
        "tutorial",
        "0.5",
        "1e-300",
        ".inf",
        "-0.0",
    ];
    let value = match rng.random_range(0..10) {
        0..4 => rng.random_range(1..100).to_string(),
        4..6 => f64::from_bits(rng.random()).to_string(),
        6..8 => pick(rng, &words).to_owned(),
        _ => {
            let yaml = pick(rng, &["{steps: 5}", "[1, 2]", "\"a\""]);
            String::from_utf8_lossy(&edited_text(rng, yaml.as_bytes(), WORDS)).into_owned()
        }
    };
    format!("{path}={value}")
}

#[test]
fn spec_loads_or_error_points_at_the_mistake() {
    let read = |name: &str| fs::read(shipped().join(name)).unwrap();
    let texts = [
        Vec::new(),
        b"seed: 1\ntrain: {steps: 5}\n".to_vec(),
        Spec::default().to_yaml().unwrap().into_bytes(),
        read("quickstart.yaml"),
        read("fast-start.yaml"),
    ];
    check(300, |rng| {
        let case = Case::random(rng, &texts);
        let directory = Directory::new(&[]);
        fs::write(
            directory.path("../outside.yaml"),
            format!("description: {SECRET}"),
        )
        .unwrap();
        for (index, file) in case.files.iter().enumerate() {
            fs::write(directory.path(&format!("f{index}.yaml")), file).unwrap();
        }
        let set: Vec<&str> = case.set.iter().map(String::as_str).collect();
        match within(MEMORY, || directory.load(case.name, &set)) {
            Ok(spec) => assert_valid(&directory, &spec),
            Err(message) => assert_points_at_the_mistake(&case, &message),
        }
    });
}

/// Every field of a resolved spec is allowed, and its frozen copy is the same spec.
fn assert_valid(directory: &Directory, spec: &Spec) {
    assert_ne!(spec.description, SECRET);
    let value = serde_yaml::to_value(spec).unwrap();
    for path in fields::paths().filter(|path| fields::is_in_spec(path)) {
        // None of a field in whose place another stands.
        let value = (path.split('.')).try_fold(&value, |value, key| value.get(key));
        if let Some(value) = value {
            fields::check(path, value.clone()).unwrap();
        }
    }
    assert!(constraints::violation(spec).is_none());
    let frozen = directory.path("frozen.yaml");
    fs::write(&frozen, spec.to_frozen_yaml().unwrap()).unwrap();
    assert_eq!(Spec::read_frozen(&frozen).unwrap(), *spec);
}

/// At the override, the name, or the file and a line that it has.
fn assert_points_at_the_mistake(case: &Case, message: &str) {
    let clean = !message.contains(|c: char| c.is_control() && c != '\n');
    assert!(clean, "{message:?}");
    let Some(rest) = message.strip_prefix("experiments/f") else {
        let at_an_override = case.set.iter().any(|set| {
            let label = user_error!("--set {set}").to_string();
            message.starts_with(&label)
        });
        let at_the_name =
            message.contains(case.name) || message.contains(&format!("{:?}", case.name));
        return assert!(at_an_override || at_the_name, "{message}");
    };
    let (index, rest) = rest.split_once(".yaml:").expect(message);
    let text = &case.files[index.parse::<usize>().unwrap()];
    if let Some((line, _)) = rest.split_once(':')
        && let Ok(line) = line.parse::<usize>()
    {
        // For YAML lines end with more than these two, and its end is a line as well.
        let text = String::from_utf8_lossy(text);
        let ends = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']);
        let lines = ends.count() + 2;
        return assert!(
            (1..=lines).contains(&line),
            "{message} in {}",
            text.escape_debug()
        );
    }
    let of_the_whole_text =
        " not valid YAML: deserializing from YAML containing more than one document";
    assert!(
        rest.starts_with(of_the_whole_text),
        "{message} in {}",
        text.escape_ascii()
    );
}
