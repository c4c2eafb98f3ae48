# runboard's commands; `make` alone lists them.

NAME ?=
# Directory of the images, in place of the spec's.
DATA ?=
# libtorch's layout: cpu, cuda, or empty for what is there or else fits the machine.
TORCH ?=
# More arguments of runboard, such as ARGS="--set train.steps=500".
ARGS ?=
# Device of the benchmark: cpu, cuda or cuda:N.
DEVICE ?=
PORT ?= 6006
# How long to fuzz or soak, and the soak's seed.
MINUTES ?=
SEED ?=
# Where to install.
PREFIX ?= $(HOME)/.local
# Of the bundle: empty, or full to pack libtorch with it.
BUNDLE ?=

PYTHON ?= python3
RUNBOARD = $(or $(CARGO_TARGET_DIR),target)/release/runboard
# How a target ends whose runboard was stopped: on Ctrl-C (130) without a word, on SIGHUP and SIGTERM (129, 143) by the
# signal, so that make's exit code is runboard's. Of every other failure make makes a 2.
STOPPED = || { code=$$?; case $$code in 130) kill -INT $$PPID; exit 0;; \
	129|143) kill -$$((code - 128)) $$PPID; sleep 1;; esac; exit $$code; }
TENSORBOARD = .venv-tensorboard
BROWSER = .venv-browser
# Beside which the benchmark times runboard, where they are installed.
BENCH_TORCH = .venv-bench-torch
BENCH_TENSORFLOW = .venv-bench-tensorflow
# setuptools: this TensorBoard still imports pkg_resources. safetensors and jsonschema: tests check
# checkpoints and the spec's schema with them.
TENSORBOARD_PACKAGES = tensorboard==2.21.0 'setuptools<81' safetensors==0.8.0 jsonschema==4.26.0

.DEFAULT_GOAL := help
.PHONY: help setup build experiment experiments resume list show report stop tensorboard tensorboard-setup test test-browser test-hosts test-slurm test-torchrun fuzz soak check docs bench bench-list bench-hosts bench-reference install bundle uninstall clean named

help: ## list the targets
	@echo "usage: make TARGET [NAME=experiment] [DATA=directory] [ARGS=\"--set train.steps=500\"] [TORCH=cpu|cuda]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install libtorch into libtorch/ (TORCH=cpu or TORCH=cuda to choose)
	@$(PYTHON) tools/setup.py libtorch $(TORCH)

build: setup
	@cargo build --release

experiment: named build ## train and evaluate an experiment: make experiment NAME=quickstart
	@trap : INT; $(RUNBOARD) run $(NAME) $(if $(DATA),--data "$(DATA)") $(ARGS) $(STOPPED)

resume: named build ## continue the latest run of an experiment: make resume NAME=baseline
	@trap : INT; $(RUNBOARD) resume $(NAME) $(if $(DATA),--data "$(DATA)") $(ARGS) $(STOPPED)

experiments: $(RUNBOARD) ## what there is to run, and the best that came of it
	@$(RUNBOARD) experiments $(ARGS)

list: $(RUNBOARD) ## the runs, the newest first: make list ARGS="--sort accuracy"
	@$(RUNBOARD) list $(ARGS)

show: named $(RUNBOARD) ## all that is known of the latest run of an experiment: make show NAME=baseline
	@$(RUNBOARD) show $(NAME) $(ARGS)

report: named $(RUNBOARD) ## one page of the latest run or sweep to send to somebody: make report NAME=learning-rate
	@$(RUNBOARD) report $(NAME) $(ARGS)

stop: named $(RUNBOARD) ## stop the latest run of an experiment, wherever it was started (NOW=1: at once)
	@$(RUNBOARD) stop $(if $(NOW),--now )$(NAME)

# Only where there is none: who stops a run cannot wait for a build.
$(RUNBOARD):
	@$(MAKE) --no-print-directory build

tensorboard: tensorboard-setup ## serve the curves of all runs, or of NAME, on http://localhost:6006 (PORT=...)
	@$(TENSORBOARD)/bin/python tools/tensorboard.py $(TENSORBOARD)/bin/tensorboard $(PORT) $(NAME)

tensorboard-setup:
	@$(PYTHON) tools/setup.py venv $(TENSORBOARD) $(TENSORBOARD_PACKAGES)

test: setup tensorboard-setup ## run the tests that need nothing else; the test-* targets below are the others
	cargo test --release

test-browser: build tensorboard-setup ## look at every TensorBoard tab of real runs in headless Chromium
	@$(PYTHON) tools/setup.py debian chromium chromium
	@$(PYTHON) tools/setup.py venv $(BROWSER) playwright==1.65.2
	@$(BROWSER)/bin/python tests/browser.py $(RUNBOARD) \
		$(TENSORBOARD)/bin/tensorboard "$$(command -v chromium)" $(or $(CARGO_TARGET_DIR),target)/browser

test-hosts: build ## train on two network namespaces and cut the cable between them (root)
	@$(PYTHON) tests/hosts.py $(RUNBOARD) $(or $(CARGO_TARGET_DIR),target)/hosts

test-slurm: build ## run under a Slurm of this one node (root; installs slurm-wlm and munge)
	@$(PYTHON) tools/setup.py debian slurmctld slurm-wlm
	@$(PYTHON) tools/setup.py debian munged munge
	@$(PYTHON) tests/slurm.py $(RUNBOARD) $(or $(CARGO_TARGET_DIR),target)/slurm

test-torchrun: build ## run under the real torchrun (installs PyTorch, 5 GB, as make bench-reference)
	@$(PYTHON) tools/setup.py venv $(BENCH_TORCH) torch==2.11.0 numpy
	@$(PYTHON) tests/torchrun.py $(RUNBOARD) $(BENCH_TORCH)/bin/torchrun $(or $(CARGO_TARGET_DIR),target)/torchrun

fuzz: build ## feed random edits of valid files to whatever reads them (MINUTES=10 each)
	@FUZZ_SECONDS=$$((60 * $(or $(MINUTES),10))) cargo test --release --lib --test integration fuzz:: -- --skip fuzz::tests:: --nocapture --test-threads 1

soak: build tensorboard-setup ## kill, stop and starve runs at random, and check that nothing is lost (MINUTES=15 SEED=n)
	@$(TENSORBOARD)/bin/python tests/soak.py $(RUNBOARD) \
		$(or $(CARGO_TARGET_DIR),target)/soak --minutes $(or $(MINUTES),15) $(if $(SEED),--seed $(SEED))

check: setup ## what CI runs: format, clippy, tests
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	@$(MAKE) --no-print-directory test

docs: setup ## renew the pages and files that tests hold equal to tables in the code: fields, schema, columns, curves
	@WRITE_DOCS=1 cargo test --release --quiet --package runboard --lib -- up_to_date of_the_docs frozen_specs_of_all

bench: setup ## time a training step, its parts and a resume, PyTorch and TensorFlow beside it (DATA=directory DEVICE=cuda)
	@OMP_WAIT_POLICY=PASSIVE cargo bench --quiet --package runboard-compute -- $(if $(DATA),--data "$(DATA)") $(if $(DEVICE),--device $(DEVICE)) \
		$(addprefix --torch ,$(wildcard $(BENCH_TORCH)/bin/python)) \
		$(addprefix --tensorflow ,$(wildcard $(BENCH_TENSORFLOW)/bin/python)) $(ARGS)

bench-list: ## time list, compare, show and report over 3,000 runs
	@cargo bench --quiet --package runboard --bench commands -- $(ARGS)

bench-hosts: build ## time training on two hosts with 1 Gbit/s between them (root; ARGS="--rate 10gbit --beside compute.reduce_precision=bf16")
	@$(PYTHON) benches/hosts.py $(RUNBOARD) $(if $(DATA),--data "$(DATA)") $(ARGS)

bench-reference: ## install the PyTorch and TensorFlow that make bench compares with
	@$(PYTHON) tools/setup.py venv $(BENCH_TORCH) torch==2.11.0 numpy safetensors==0.8.0 pillow==13.0.0 tensorboard==2.21.0 'setuptools<81'
	@$(PYTHON) tools/setup.py venv $(BENCH_TENSORFLOW) tensorflow-cpu==2.21.0

install: build ## install runboard, libtorch and the experiments into PREFIX (~/.local)
	@$(PYTHON) tools/install.py install $(RUNBOARD) "$(PREFIX)"

# It is built in the release profile as anything else, and stripped in the bundle alone.
bundle: build ## pack runboard for machines without Rust, such as one with GPUs (BUNDLE=full: libtorch too)
	@$(PYTHON) tools/bundle.py $(RUNBOARD) $(or $(CARGO_TARGET_DIR),target)/bundle $(BUNDLE)

uninstall: ## remove what was installed
	@$(PYTHON) tools/install.py uninstall "$(PREFIX)"

clean: ## remove what was built, libtorch and the environments of Python; runs, data and what `make install` installed stay
	rm -rf target libtorch .venv-torch $(TENSORBOARD) $(BROWSER) $(BENCH_TORCH) $(BENCH_TENSORFLOW)

named:
	@test -n "$(NAME)" || { echo "which experiment? NAME=... (there are: $(basename $(notdir $(wildcard experiments/*.yaml))))" >&2; exit 2; }
