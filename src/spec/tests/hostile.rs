//! Input made to break the reader.

use super::*;

/// Aliases that would multiply to billions of nodes, and nesting deeper than any stack.
#[test]
fn bombs_are_defused() {
    let mut bomb = String::from("description: x\nseed: &a [x,x,x,x,x,x,x,x,x]\n");
    bomb += &format!("train: [{}]\n", "*a,".repeat(20_000));
    assert!(bad(&bomb).starts_with("experiments/bad.yaml:2:7: seed: got a list"));
    assert!(bad("train: &a {steps: *a}").contains("train.steps: got a mapping"));
    for text in ["[", "{", "a: {", "- ", "? "] {
        let deep = text.repeat(5_000);
        assert!(bad(&deep).starts_with("experiments/bad.yaml:"), "{text}");
    }
}

#[test]
fn nothing_panics_and_every_refusal_is_the_users() {
    let folder = Folder::new(&[]);
    let whole = Spec::default().to_yaml().unwrap().into_bytes();
    let pieces: [&[u8]; 16] = [
        b": ", b"- ", b"\n", b"  ", b"&a ", b"*a", b"{", b"}", b"[", b"]", b"!t ", b"\"", b"train",
        b"~", b"\xff", b"|\n",
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for round in 0..1_000 {
        let mut bytes = if round % 4 == 0 {
            Vec::new()
        } else {
            whole.clone()
        };
        for _ in 0..rng.random_range(1..8) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, rng.random()),
                2 => drop(bytes.drain(at..(at + rng.random_range(0..20)).min(bytes.len()))),
                _ => drop(bytes.splice(
                    at..at,
                    pieces[rng.random_range(0..pieces.len())].iter().copied(),
                )),
            }
        }
        fs::write(folder.path("any.yaml"), &bytes).unwrap();
        let _ = folder.load("any", &[]); // checks that an error is the user's
        let set = String::from_utf8_lossy(&bytes);
        let _ = folder.load("any", &[&format!("train={set}"), &set]);
    }
}
