#!/usr/bin/env python3
"""Install runboard, or remove what was installed: what `make install` and `make uninstall` call.

usage: tools/install.py install BINARY PREFIX
       tools/install.py uninstall PREFIX

  PREFIX/bin/runboard                the program
  PREFIX/bin/runboard-compute        what it starts to train and evaluate; BINARY is beside its own
  PREFIX/lib/runboard/               libtorch: its files, shared with this directory's where the file system can; with
                                     CUDA a link to this directory's, which must stay
  PREFIX/share/runboard/experiments/ the shipped experiments
  PREFIX/share/...                   completions of bash, zsh and fish, and manual pages

A libtorch that LIBTORCH names is not installed: the program looks for it where it was when it was built.
"""
import os, shutil, subprocess, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBTORCH = ROOT / "libtorch"
# What `runboard generate PREFIX/share` writes, as patterns there.
GENERATED = ["bash-completion/completions/runboard", "zsh/site-functions/_runboard",
             "fish/vendor_completions.d/runboard.fish", "man/man1/runboard.1", "man/man1/runboard-*.1"]


def remove(path):
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def replace(path, fill):
    """Make `path` anew by `fill`, beside it first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}-new")
    remove(fresh)
    fill(fresh)
    if not fresh.is_file():
        remove(path)
    fresh.rename(path)


def copy_program(binary, to):
    shutil.copyfile(binary, to)
    to.chmod(0o755)


def link_or_copy(source, to):
    try:
        os.link(source, to)
    except OSError:  # another file system
        shutil.copy2(source, to)


def copy_libtorch(to):
    layout = (LIBTORCH / "runboard-layout").read_text().split()[0]
    if layout == "cuda":
        to.symlink_to(LIBTORCH / "lib")
        return
    shutil.copytree((LIBTORCH / "lib").resolve(), to, copy_function=link_or_copy)


def copy_experiments(to):
    to.mkdir()
    for file in sorted((ROOT / "experiments").glob("*")):
        if file.suffix in (".yaml", ".json"):
            shutil.copyfile(file, to / file.name)


def install(binary, prefix):
    own = Path(os.environ.get("LIBTORCH") or LIBTORCH).resolve() == LIBTORCH.resolve()
    if own:
        replace(prefix / "lib/runboard", copy_libtorch)
    else:
        remove(prefix / "lib/runboard")
    replace(prefix / "share/runboard/experiments", copy_experiments)
    for name in ("runboard-compute", "runboard"):  # the one that starts the other last
        program = prefix / "bin" / name
        replace(program, lambda to: copy_program(binary.with_name(name), to))
    subprocess.run([program, "generate", prefix / "share"], check=True)
    print(f"install: {program} is installed; experiments in {prefix / 'share/runboard/experiments'}")
    if str(program.parent) not in os.environ.get("PATH", "").split(os.pathsep):
        print(f"install: {program.parent} is not in PATH")


def uninstall(prefix):
    found = [prefix / place for place in ("bin/runboard", "bin/runboard-compute", "lib/runboard", "share/runboard")]
    for pattern in GENERATED:
        found += (prefix / "share").glob(pattern)
    for path in found:
        if path.is_symlink() or path.exists():
            remove(path)
            print(f"uninstall: removed {path}")
            remove_empty(path.parent, prefix)


def remove_empty(directory, prefix):
    """Remove `directory`, and those that it is in down to `prefix`, as far as nothing is in them."""
    while directory.is_relative_to(prefix) and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent


def prefix_of(text):
    return Path(text).expanduser().absolute()


if __name__ == "__main__":
    try:
        match sys.argv[1:]:
            case ["install", binary, prefix] if prefix:
                install(Path(binary), prefix_of(prefix))
            case ["uninstall", prefix] if prefix:
                uninstall(prefix_of(prefix))
            case _:
                sys.exit(__doc__)
    except OSError as error:
        sys.exit(f"install: {error}")
