# Everything a newcomer needs: `make quickstart`, `make test`. Python >= 3.11 and make are enough.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# CPU build of torch for machines whose package index offers CUDA by default:
#   make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
WORKERS ?= 2

.PHONY: help install quickstart test test-long test-services lint types format clean bench-fidelity bench-encode bench-store bench-window bench-overlap bench-loader bench-loss bench-students bench-evaluate ablation

help:           ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## create .venv and install the packages with the tested versions

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: install  ## the main job on examples/java, from Java source to report
	PATH="$(abspath $(BIN)):$$PATH" bash tools/quickstart.sh

test: install  ## the test suite (no service, no network)
	$(BIN)/pytest -n $(WORKERS) -m "not service and not long"

test-long: install  ## what takes long: every benchmark at a small size, other frameworks, tools
	$(BIN)/pytest -n $(WORKERS) -m long

test-services: install  ## tests against real services; skips say what is missing
	$(BIN)/pytest -m service

TEACHER ?= quickstart/teacher/final_model
ROWS    ?= quickstart/rows.jsonl
bench-fidelity: install  ## codecs compared: bytes, gradient angle, speed; TEACHER=, ROWS=, BENCH="--student DIR --json OUT"
	$(BIN)/python tools/bench/fidelity.py --teacher $(TEACHER) --rows $(ROWS) $(BENCH)

bench-encode: install  ## what each codec adds to the forward pass of a T5 of CodeT5-220m's size; BENCH="--json OUT"
	$(BIN)/python tools/bench/encode.py $(BENCH)

bench-store: install  ## memory of a 2 GB build, opening of 10,000 parts, speed against numpy files; BENCH="--json OUT"
	$(BIN)/python tools/bench/store.py $(BENCH)

# Python of the environment that tools/bench/peers.txt describes; .bench/bin/python where that is there.
PEERS ?=
bench-loader: install  ## our loader against other libraries' at the same records; PEERS=, BENCH="--only ours-zarr,webdataset --json OUT"
	$(BIN)/python tools/bench/loader.py $(if $(PEERS),--peers-python $(PEERS)) $(BENCH)

bench-window: install  ## memory of streaming 0.4 and 4 GB in a limited address space; BENCH="--json OUT"
	$(BIN)/python tools/bench/window.py $(BENCH)

STORE   ?= quickstart/train.kd
bench-overlap: install  ## what streaming adds to a training step; STORE=, BENCH="--preset tiny --json OUT"
	$(BIN)/python tools/bench/overlap.py $(STORE) $(BENCH)

bench-loss: install  ## time and memory of the distillation head beside cross-entropy; BENCH="--tokens 4096 --dim 768 --json OUT"
	$(BIN)/python tools/bench/loss.py $(BENCH)

STORES  ?= quickstart/train.kd
VAL     ?= quickstart/val.kd
START   ?= quickstart/student/final_model
bench-students: install  ## students of stored signals and of dense logits; STORES=, VAL=, TEACHER=, BENCH="--json OUT"
	$(BIN)/python tools/bench/students.py $(STORES) --val $(VAL) --teacher $(TEACHER) $(BENCH)

bench-evaluate: install  ## time and memory of measuring predictions; ROWS=, BENCH="--sizes 1000,10000 --json OUT"
	$(BIN)/python tools/bench/evaluate.py --rows $(ROWS) $(BENCH)

ablation: install  ## what each loss component moves by itself; STORE=, VAL=, START=, BENCH="--json OUT"
	$(BIN)/python tools/ablation.py $(STORE) --val $(VAL) --start $(START) $(BENCH)

lint: install  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy, strict on the packages
	$(BIN)/mypy

format: install  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:          ## remove the environment and quickstart's results
	rm -rf $(VENV) quickstart
