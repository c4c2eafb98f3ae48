#!/usr/bin/env python3
"""Pack runboard for machines without Rust, a compiler or the network: what `make bundle` calls.

usage: tools/bundle.py BINARY OUT [full]

  OUT/NAME/ and OUT/NAME.tar.gz, with NAME of version and machine:
  runboard, runboard-compute   the programs, stripped; BINARY is runboard, the other one is beside it
  experiments/                 the shipped experiments and their schema
  benches/reference/           PyTorch's and TensorFlow's side of the benchmark
  docs/, README.md, LICENSE*   and THIRD-PARTY, the licences of the crates that are in the programs
  bundle.json                  how the programs were built; that it is there makes them look for libtorch (docs/gpu.md)
  SHA256SUMS                   of all other files: `sha256sum --check SHA256SUMS`
  libtorch/                    with `full`: libtorch itself; with CUDA NVIDIA's libraries too, in nvidia/
"""
import hashlib, json, os, platform, shutil, struct, subprocess, sys, tarfile
from datetime import datetime, timezone
from pathlib import Path
from install import LIBTORCH, ROOT, copy_experiments, copy_program, remove

PROGRAMS = ("runboard", "runboard-compute")
TEXTS = ("README.md", "CHANGELOG.md", "LICENSE", "LICENSE-APACHE", "LICENSE-MIT")
# What a program's loader looks through after LD_LIBRARY_PATH: libtorch beside it.
OWN_LIBRARIES = b"$ORIGIN/libtorch/lib"


def say(text):
    print(f"bundle: {text}", flush=True)


def fail(text):
    sys.exit(f"bundle: {text}")


def output(*command, **options):
    """What a command prints; nothing where it fails or is not there."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def strip(program, to):
    copy_program(program, to)
    subprocess.run(["strip", to], check=True)


def look_for_libtorch(program):
    """Let a program look for its libraries in LD_LIBRARY_PATH first, and then beside itself, in place of where libtorch was when
    it was built. In the dynamic section (https://refspecs.linuxfoundation.org/elf/gabi4+/ch5.dynamic.html) that is another tag
    of the same entry, and another text, no longer than that which is there."""
    DT_NULL, DT_STRTAB, DT_RPATH, DT_RUNPATH, PT_LOAD, PT_DYNAMIC = 0, 5, 15, 29, 1, 2
    image = bytearray(program.read_bytes())
    if image[:6] != b"\x7fELF\x02\x01":
        fail(f"{program} is no 64-bit little-endian ELF file")
    headers, = struct.unpack_from("<Q", image, 32)
    size, count = struct.unpack_from("<HH", image, 54)
    segments = []
    for at in range(headers, headers + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", image, at)
        segments.append((kind, offset, address, length))
    dynamic = next((offset, length) for kind, offset, _, length in segments if kind == PT_DYNAMIC)
    entries = {}
    for at in range(dynamic[0], sum(dynamic), 16):
        tag, value = struct.unpack_from("<QQ", image, at)
        if tag == DT_NULL:
            break
        entries[tag] = (at, value)
    found = next((entries[tag] for tag in (DT_RPATH, DT_RUNPATH) if tag in entries), None)
    if found is None:
        return  # built for libtorch in a system's directory
    at, text = found
    strings = entries[DT_STRTAB][1]
    start = next(offset + strings - address for kind, offset, address, length in segments
                 if kind == PT_LOAD and address <= strings < address + length) + text
    end = image.index(0, start)
    if end - start < len(OWN_LIBRARIES):
        fail(f"{program} has no room for {OWN_LIBRARIES.decode()} in {image[start:end].decode()}")
    image[start:end] = OWN_LIBRARIES.ljust(end - start, b"\0")
    struct.pack_into("<Q", image, at, DT_RUNPATH)
    program.write_bytes(image)


def copy_libtorch(to):
    """libtorch's libraries, and with CUDA those of NVIDIA, which it looks for in ../../nvidia of its own."""
    lib = (LIBTORCH / "lib").resolve()
    skipped = shutil.ignore_patterns("*.a", "libtorch_python.so")
    shutil.copytree(lib, to / "libtorch/lib", ignore=skipped)
    layout, version = (LIBTORCH / "runboard-layout").read_text().split()
    (to / "libtorch/build-version").write_text(version + "\n")
    licences = [LIBTORCH / "LICENSE", *lib.parent.parent.glob("torch-*.dist-info/licenses/LICENSE")]
    for licence in licences:
        if licence.exists():
            shutil.copyfile(licence, to / "libtorch/LICENSE")
    if layout == "cuda":
        site = lib.parent.parent
        skipped = shutil.ignore_patterns("include", "bin", "*.a", "*.py", "__pycache__")
        shutil.copytree(site / "nvidia", to / "nvidia", ignore=skipped)
        for licence in site.glob("nvidia*.dist-info/licenses/*"):
            shutil.copyfile(licence, to / "nvidia" / f"{licence.parent.parent.stem}-{licence.name}")
    return layout


def third_party():
    """The licences of the crates in the programs, without those of tests and build scripts."""
    told = output("cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform",
                  "x86_64-unknown-linux-gnu", cwd=ROOT)
    if not told:
        fail("`cargo metadata` fails, which tells the crates and their licences")
    told = json.loads(told)
    packages = {package["id"]: package for package in told["packages"]}
    nodes = {node["id"]: node for node in told["resolve"]["nodes"]}
    found, waiting = set(), list(told["workspace_members"])
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found.add(node)
        waiting += [dependency["pkg"] for dependency in nodes[node]["deps"]
                    if any(kind["kind"] is None for kind in dependency["dep_kinds"])]
    crates, texts = "", {}  # a text once, however many have it
    for package in sorted((packages[node] for node in found), key=lambda it: (it["name"], it["version"])):
        if package["source"] is None:
            continue  # ours
        name = f"{package['name']} {package['version']}"
        crates += f"{name}: {package['license'] or 'its own licence, below'}, {package['repository'] or package['source']}\n"
        for file in sorted(Path(package["manifest_path"]).parent.iterdir()):
            if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "COPYRIGHT")):
                texts.setdefault(file.read_text(errors="replace").strip(), []).append(f"{name} ({file.name})")
    for text, of in texts.items():
        crates += f"\n{'=' * 100}\n{', '.join(dict.fromkeys(of))}\n\n{text}\n"
    return crates


def how_built(programs, layout):
    machine = output(programs / "runboard-compute", "machine")
    if not machine:
        fail(f"{programs / 'runboard-compute'} does not start; `make build` builds it")
    machine = json.loads(machine)
    commit = output("git", "rev-parse", "HEAD", cwd=ROOT)
    return {
        "version": output(programs / "runboard", "--version").split()[-1],
        "commit": commit or None,
        "changed_since_commit": bool(output("git", "status", "--porcelain", cwd=ROOT)) if commit else None,
        "packed": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rustc": output("rustc", "--version") or None,
        "glibc": platform.libc_ver(str(programs / "runboard-compute"))[1],
        "libtorch": machine["libtorch"],
        "libtorch_packed": layout,
        "target_features": machine["target_features"],
    }


def checksums(directory):
    lines = []
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        lines.append(f"{digest.hexdigest()}  {path.relative_to(directory)}\n")
    return "".join(lines)


def archive(directory, to):
    def plain(entry):
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry
    # Of libtorch's libraries a higher level makes as many bytes in three times the time.
    with tarfile.open(to, "w:gz", compresslevel=6) as tar:
        tar.add(directory, directory.name, filter=plain)


def bundle(binary, out, full):
    programs = binary.parent
    about = how_built(programs, None)
    directory = out / f"runboard-{about['version']}-{platform.machine()}-linux"
    for old in (directory, Path(f"{directory}.tar.gz")):
        remove(old)
    directory.mkdir(parents=True)
    for name in PROGRAMS:
        strip(programs / name, directory / name)
    look_for_libtorch(directory / "runboard-compute")
    copy_experiments(directory / "experiments")
    (directory / "benches").mkdir()
    shutil.copytree(ROOT / "benches/reference", directory / "benches/reference",
                    ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", directory / "docs", ignore=lambda _, names: [it for it in names if not it.endswith(".md")])
    for name in TEXTS:
        shutil.copyfile(ROOT / name, directory / name)
    (directory / "THIRD-PARTY").write_text(third_party())
    if full:
        say("packing libtorch, which takes minutes")
        about["libtorch_packed"] = copy_libtorch(directory)
    (directory / "bundle.json").write_text(json.dumps(about, indent=2) + "\n")
    (directory / "SHA256SUMS").write_text(checksums(directory))
    packed = Path(f"{directory}.tar.gz")
    archive(directory, packed)
    say(f"{packed} is packed, {packed.stat().st_size / 1e6:.0f} MB; the same is in {directory}")


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case [binary, out]:
                bundle(Path(binary), Path(out), False)
            case [binary, out, "full"]:
                bundle(Path(binary), Path(out), True)
            case _:
                sys.exit(__doc__)
    except (OSError, subprocess.CalledProcessError) as error:
        fail(error)
