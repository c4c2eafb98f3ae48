#!/usr/bin/env python3
"""Install what runboard needs besides cargo's crates, once; does nothing when it is there already.

    setup.py libtorch [auto|cpu|cuda]    libtorch into libtorch/, from PyPI's torch wheel
    setup.py venv DIR REQUIREMENT ...    a virtual environment in DIR with these packages
    setup.py debian COMMAND PACKAGE      Debian's PACKAGE, unless there is a COMMAND already

libtorch's layouts:
  cpu   about 500 MB on disk: headers and the CPU libraries only, taken out of the wheel.
  cuda  about 5 GB on disk: the whole wheel with NVIDIA's libraries, in a virtual environment.
  auto  cuda where an NVIDIA driver is loaded, else cpu; an installed layout is kept (default).

In libtorch/build, with either, is what crates are shown of it when they are built: the same, and with the CPU layout
an empty libtorch_cuda.so. Without one burn-tch makes a program that refuses GPUs, with whatever libtorch it runs.

libtorch is built beside its directory and renamed into place, and a virtual environment is stamped at
the end, so an interrupted set-up leaves nothing that looks complete.
"""
import os, platform, shutil, subprocess, sys, tempfile, zipfile
from pathlib import Path

TORCH = "2.11.0"
# libtorch_cpu.so of this wheel is linked against these two even where no GPU is used.
CUDA_STUBS = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
# Any CPython serves: only the C++ part of the wheel is used. A fixed tag gives every user one file.
PYTHON_TAG = "311"
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "libtorch"
VENV = ROOT / ".venv-torch"
CPU_LIBRARIES = {"libtorch_cpu.so", "libc10.so"}
STUB_LIBRARIES = {"libcudart.so.13", "libcupti.so.13"}


def say(text):
    print(f"setup: {text}", flush=True)


def fail(text):
    sys.exit(f"setup: {text}")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], **options)
    if done.returncode != 0:
        fail(f"this command failed with exit code {done.returncode}: {' '.join(map(str, command))}")


def pip_command(scratch):
    """pip of this python, or else pip's own wheel out of Debian's python3-pip-whl (no root needed)."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return [sys.executable, "-m", "pip"]
    say("this python3 has no pip: taking it from Debian's python3-pip-whl package")
    try:
        subprocess.run(["apt-get", "download", "python3-pip-whl"], cwd=scratch, check=True)
        package = next(scratch.glob("python3-pip-whl_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, scratch / "pip"], check=True)
        wheel = next((scratch / "pip").rglob("pip-*.whl"))
    except (OSError, subprocess.CalledProcessError, StopIteration):
        fail("no pip for python3; install it (Debian: sudo apt-get install python3-venv python3-pip) and run this again")
    return [sys.executable, wheel / "pip"]


def driver_loaded():
    return Path("/proc/driver/nvidia/version").exists()


def installed():
    stamp = TARGET / "runboard-layout"
    return stamp.read_text().strip() if stamp.exists() else ""


def install_cpu(scratch):
    say(f"downloading torch {TORCH} (530 MB) and unpacking its CPU libraries into {TARGET}")
    wheels = scratch / "wheels"
    run(*pip_command(scratch), "download", "--quiet", "--progress-bar", "on", "--disable-pip-version-check",
        "--no-deps", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON_TAG,
        "--abi", f"cp{PYTHON_TAG}", "--abi", "none", "--platform", "manylinux_2_28_x86_64",
        "--platform", "manylinux_2_25_x86_64", "--platform", "manylinux2014_x86_64",
        "--dest", wheels, f"torch=={TORCH}", *CUDA_STUBS)
    fresh = scratch / "libtorch"
    lib = fresh / "lib"
    lib.mkdir(parents=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                base = os.path.basename(name)
                if name.startswith("torch/include/") and base:
                    to = fresh / name[len("torch/"):]
                elif name.startswith("torch/lib/") and (base in CPU_LIBRARIES or base.startswith("libgomp")):
                    to = lib / base
                elif base in STUB_LIBRARIES or name == f"torch-{TORCH}.dist-info/licenses/LICENSE":
                    to = lib / base if base in STUB_LIBRARIES else fresh / "LICENSE"
                else:
                    continue
                to.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, open(to, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
    missing = [n for n in sorted(CPU_LIBRARIES | STUB_LIBRARIES) if not (lib / n).exists()]
    if missing:
        fail(f"the wheels lack {', '.join(missing)}: they are not the ones this script knows")
    # tch links -ltorch; the wheel's own libtorch.so would pull in the CUDA libraries.
    run("gcc", "-shared", "-o", "libtorch.so", "-Wl,--no-as-needed", "-L.", "-l:libtorch_cpu.so",
        "-Wl,-rpath,$ORIGIN", cwd=lib)
    return fresh


def install_venv(directory, requirements):
    stamp = directory / "runboard-requirements"
    wanted = " ".join(requirements) + "\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say(f"installing {', '.join(requirements)} into {directory}")
    # Without pip, which Debian's python3 cannot put there; pip from outside installs into it.
    run(sys.executable, "-m", "venv", "--without-pip", "--clear", directory)
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=ROOT) as scratch:
        run(*pip_command(Path(scratch)), "--python", directory / "bin" / "python", "install", "--quiet",
            "--disable-pip-version-check", *requirements)
    stamp.write_text(wanted)


def install_cuda(scratch):
    say(f"torch {TORCH} with its CUDA libraries is about 3 GB to download")
    install_venv(VENV, [f"torch=={TORCH}"])
    package = next(VENV.glob("lib/python3*/site-packages/torch"))
    fresh = scratch / "libtorch"
    fresh.mkdir()
    # Links, not copies: libtorch_cuda.so finds NVIDIA's libraries relative to where it really lies.
    for part in ("include", "lib"):
        (fresh / part).symlink_to(os.path.relpath(package / part, TARGET))
    return fresh


def show_crates():
    """The directory that LIBTORCH names in .cargo/config.toml: libtorch itself; or links to what is in it, and an empty
    libtorch_cuda.so, which no program asks the loader for."""
    if (TARGET / "build").exists():
        return
    if (TARGET / "lib/libtorch_cuda.so").exists():
        (TARGET / "build").symlink_to(".")
        return
    with tempfile.TemporaryDirectory(prefix=".build-", dir=TARGET) as scratch:
        build = Path(scratch) / "build"
        lib = build / "lib"
        lib.mkdir(parents=True)
        (build / "include").symlink_to("../include")
        for file in sorted((TARGET / "lib").iterdir()):
            (lib / file.name).symlink_to(Path("../../lib", file.name))
        run("gcc", "-shared", "-o", lib / "libtorch_cuda.so", "-x", "c", os.devnull)
        build.rename(TARGET / "build")


def forget_build():
    """torch-sys is built for the headers that were there."""
    if (ROOT / "target").exists():
        say("the layout changed: the libtorch crates will be built again")
        run("cargo", "clean", "--release", "-p", "torch-sys", "-p", "burn-tch", cwd=ROOT)


def install_libtorch(wanted="auto"):
    if wanted not in ("auto", "cpu", "cuda"):
        fail(f"unknown layout '{wanted}', want auto, cpu or cuda")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        fail(f"want Linux on x86_64, found {platform.system()} on {platform.machine()}; "
             "point the environment variable LIBTORCH at a libtorch 2.11 of your own and build with cargo")
    have = installed()
    layout = wanted
    if wanted == "auto":
        layout = have.split()[0] if have else "cuda" if driver_loaded() else "cpu"
    stamp = f"{layout} {TORCH}"
    if have != stamp:
        with tempfile.TemporaryDirectory(prefix=".libtorch-", dir=ROOT) as scratch:
            scratch = Path(scratch)
            fresh = install_cpu(scratch) if layout == "cpu" else install_cuda(scratch)
            (fresh / "runboard-layout").write_text(stamp + "\n")
            if TARGET.exists():
                shutil.rmtree(TARGET)
            fresh.rename(TARGET)
        if have:
            forget_build()
        say(f"libtorch {TORCH} ({layout}) is in {TARGET}")
    show_crates()


def install_debian(command, package):
    if shutil.which(command):
        return
    root = [] if os.geteuid() == 0 else ["sudo"]
    say(f"installing Debian's {package}")
    if root and not shutil.which("sudo"):
        fail(f"there is no {command}; as root: apt-get install {package}")
    run(*root, "apt-get", "update", "-qq")
    run(*root, "apt-get", "install", "-y", "-qq", package)


match sys.argv[1:]:
    case ["libtorch"]:
        install_libtorch()
    case ["libtorch", layout]:
        install_libtorch(layout or "auto")
    case ["venv", directory, *requirements] if requirements:
        install_venv(ROOT / directory, requirements)
    case ["debian", command, package]:
        install_debian(command, package)
    case _:
        sys.exit(__doc__)
