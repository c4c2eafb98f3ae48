#!/usr/bin/env python3
"""Open a real TensorBoard on real runs in headless Chromium and look at every tab: `make test-browser`.

    browser.py RUNBOARD TENSORBOARD CHROMIUM SCREENSHOTS

Trains three short quickstart runs that differ in a hyperparameter, and starts a fourth that is still
running when TensorBoard is opened. Each tab must show the names expected of it, and none may report an
error. The pages of `runboard report` are looked at as well: on a phone, on wider screens, in the dark, without
scripts and on paper. Screenshots of all are left in the directory SCREENSHOTS, to be looked at.
"""
import os, re, signal, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path
from playwright.sync_api import sync_playwright
from tags import known
from trial import free_port

RUNBOARD, TENSORBOARD, CHROMIUM, SCREENSHOTS = sys.argv[1:5]
ROOT = Path(__file__).resolve().parent.parent
SHORT = ["train.steps=40", "train.checkpoint_every=20", "train.histograms_every=20", "train.images_every=20",
         "data.synthetic.train_images=2000", "data.synthetic.test_images=500", "eval.interval_secs=0.2"]
# What a tab must show, by its name in the address. All of it is text on the page, except for the graph's.
CURVES = [known("eval", "Precision @ 1"), known("train", "total_loss"), known("train", "learning_rate")]
BEST = known("eval", "Overview/best accuracy")
TABS = {
    "timeseries": CURVES,
    "scalars": CURVES,
    "images": [known("eval", "confusion_matrix"), known("eval", "confident_mistakes"), "images"],
    "graphs": ["conv1", "pool1", "norm1", "local3", "softmax_linear", "total_loss", "gradients"],
    "distributions": ["conv1", "local3", "softmax_linear"],
    "histograms": ["conv1", "local3", "softmax_linear"],
    "hparams": ["optimizer.learning_rate", "TABLE VIEW", "PARALLEL COORDINATES VIEW"],
    "text": [known("train", "description"), known("train", "spec"), known("train", "sessions")],
    "pr_curves": ["pr/disc", "pr/ring", known("eval", "pr/macro average")],
    "custom_scalars": ["Training (of augmented images, averaged) beside evaluation", "Speed", "cross-entropy"],
}
# Views inside a tab, and what must be written at the axes of their charts.
VIEWS = {"hparams": {"PARALLEL COORDINATES VIEW": [BEST, "learning_rate"],
                     "SCATTER PLOT MATRIX VIEW": [BEST, "learning_rate"]}}
PATIENCE = 60_000  # milliseconds for a text to appear


def command(directory, name, *sets):
    line = [RUNBOARD, "run", name, "--runs", directory / "runs", "--experiments", ROOT / "experiments",
            "--data", directory / "data"]
    return line + [part for given in (*SHORT, *sets) for part in ("--set", given)]


def wait_until_serving(url, seconds=60):
    for _ in range(seconds * 5):
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            time.sleep(0.2)
    sys.exit(f"browser.py: no TensorBoard at {url} after {seconds} s")


def look(page, url, tab, names):
    """Open a tab; the names that did not appear."""
    page.goto(f"{url}/?darkMode=false&smoothing=0#{tab}", wait_until="load")
    page.reload(wait_until="load")
    missing = []
    for name in names:
        try:
            page.get_by_text(re.compile("^\\s*" + re.escape(name), re.IGNORECASE)).first.wait_for(
                state="attached", timeout=PATIENCE if not missing else 2_000)
        except Exception:
            missing.append(name)
    time.sleep(2)  # for charts to be drawn
    page.screenshot(path=Path(SCREENSHOTS) / f"{tab}.png")
    for view, names in VIEWS.get(tab, {}).items():
        page.get_by_text(view).first.click()
        time.sleep(2)
        page.screenshot(path=Path(SCREENSHOTS) / f"{tab}-{view.split()[0].lower()}.png")
        missing += [f"{name} in {view}" for name in names if not page.locator(f"svg text:has-text('{name}')").count()]
    return missing


def look_at_report(browser, name, path):
    """Open a page of `runboard report`; what is wrong with it."""
    failures = []
    for width, scheme, scripts in ((360, "light", True), (800, "dark", True), (1400, "light", True), (1400, "dark", False)):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts)
        page, told = context.new_page(), []
        page.on("console", lambda message: told.append(message.text) if message.type in ("error", "warning") else None)
        page.on("request", lambda request: told.append(f"asks for {request.url}")
                if not request.url.startswith(("data:", "file:")) else None)
        page.goto(path.as_uri(), wait_until="load")
        what = f"{name}-{width}-{scheme}" + ("" if scripts else "-without-scripts")
        page.screenshot(path=Path(SCREENSHOTS) / f"{what}.png", full_page=True)
        if scripts:
            if page.evaluate("document.documentElement.scrollWidth") > width:
                told.append("is wider than the window")
            charts = page.locator(".plot[data-from] svg")
            charts.first.hover()
            if "step" not in page.locator(".plot output:visible").first.inner_text():
                told.append("shows no value under the pointer")
        failures += [f"{what}: {text}" for text in told]
        if width == 1400 and scripts:
            page.pdf(path=Path(SCREENSHOTS) / f"{name}.pdf", format="A4")
        context.close()
    return failures


def report(directory, *what):
    line = [RUNBOARD, "report", *what, "--runs", directory / "runs"]
    return Path(subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()).resolve()


def check(directory):
    for rate in ("0.05", "0.1", "0.2"):
        subprocess.run(command(directory, "quickstart", f"optimizer.learning_rate={rate}"), check=True,
                       stdout=subprocess.DEVNULL)
    running = subprocess.Popen(command(directory, "quickstart", "train.steps=100000"), stdout=subprocess.DEVNULL)
    port = free_port()
    server = subprocess.Popen([TENSORBOARD, "--logdir", directory / "runs", "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    failures = []
    try:
        wait_until_serving(f"{url}/data/environment")
        time.sleep(10)  # TensorBoard reads new runs every few seconds
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[
                "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
                "--disable-sync", "--no-first-run"])
            ended = [f"quickstart/{run.name}" for run in sorted((directory / "runs/quickstart").iterdir())[:3]]
            for name, what in {"report-run": ended[:1], "report-several": ended}.items():
                found = look_at_report(browser, name, report(directory, *what))
                print(f"{name}: {'ok' if not found else 'FAILED'}", flush=True)
                failures += found
            page = browser.new_page(viewport={"width": 1500, "height": 1100})
            for tab, names in TABS.items():
                # Of a running run, TensorBoard may drop a picture from its sample between telling of it and being
                # asked for it; not twice in a row.
                for _ in range(2):
                    errors = []
                    listener = lambda message: errors.append(message.text) if message.type == "error" else None
                    page.on("console", listener)
                    missing = look(page, url, tab, names)
                    page.remove_listener("console", listener)
                    if not (missing or errors):
                        break
                print(f"{tab}: {'ok' if not (missing or errors) else 'FAILED'}", flush=True)
                failures += [f"{tab}: no '{name}' on the page" for name in missing]
                failures += [f"{tab}: the console says: {error}" for error in errors]
            browser.close()
        if running.poll() is not None:
            failures.append("the run that should be running has ended")
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()
        server.terminate()
        server.wait()
    return failures


def main():
    os.makedirs(SCREENSHOTS, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        failures = check(Path(directory))
    print(f"screenshots are in {SCREENSHOTS}")
    sys.exit("\n".join(failures) if failures else 0)


main()
