"""Every command of the README is run: here, or by `.ci/run`."""

from __future__ import annotations

import multiprocessing
import os
import re
import shlex
from pathlib import Path

import pytest
import readme_command
from filelock import FileLock
from runs import noisy, write_run

from eicap_tasks import items
from eicap_tasks.documents import documents
from eicap_tasks.runner import TASKS
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVING = (ROOT / "examples" / "serving.md").read_text(encoding="utf-8")


def commands(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


COMMANDS = commands(README)
BY_CI = {"make demo", "make test", "pip install ."}
HERE = [command for command in COMMANDS if command not in BY_CI]
FIRST = next(command for command in HERE if command.startswith("lm_eval "))
LAUNCHER = re.compile(r"^(?:OPENAI_API_KEY=\w+ |accelerate launch .*? -m )(?=lm_eval )")
OF_SERVERS = ("vllm serve ", "python -m sglang.launch_server ", "transformers serve ", "ray start ")
FORKS = multiprocessing.get_context("forkserver")  # to import lm_eval takes as long as a command itself
FORKS.set_forkserver_preload(
    ["readme_command", "eicap_tasks.audit", "eicap_tasks.report", "eicap_tasks.comparison", "eicap_tasks.leaderboard"]
)
ONE_OF = {
    "eicap": "eicap_cause_en",
    "eicap_gen": "eicap_cause_en_gen",
    "eicap_gen_en": "eicap_cause_en_gen",
    "eicap_circular": "eicap_cause_en_circular",
}
ON_SEVERAL = [LAUNCHER.sub("", line) for line in commands(SERVING) if not line.startswith(OF_SERVERS)]


def test_ci_runs_the_rest() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    makefile = (ROOT / "Makefile").read_text()
    assert "make test" in script
    assert "make demo" in script
    assert '$(PIP) ".[demo]"' in makefile.split("$(VENV)/.demo:")[1].split("$(VENV)/.dev:")[0]
    assert set(COMMANDS) >= BY_CI


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200
    assert "@@" not in README


def test_the_page_on_servers_says_what_was_not_tried() -> None:
    assert len(ON_SEVERAL) == 7
    assert all(line.startswith("lm_eval ") for line in ON_SEVERAL)
    assert "starting vLLM, SGLang and Ray was not tried on our machines" in SERVING.replace("\n", " ")


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `results` with a base and a tuned run, as the commands of the README name them."""
    folder = tmp_path_factory.getbasetemp().parent / f"readme-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):  # once for all workers: both runs are of all our items
        for name, skill in (("base", 1.0), ("tuned", 2.0)):
            if not (folder / "results" / name).exists():
                write_run(folder / "results" / name, noisy(1, skill), name=f"org/{name}")
    return folder / "results"


@pytest.mark.parametrize("command", [*HERE, *ON_SEVERAL])
def test_each_command_does_what_it_says(command: str, tmp_path: Path, two_runs: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "results").symlink_to(two_runs)
    words = shlex.split(command.replace('"$(eicap path)"', str(TASKS)))
    runs_a_model = "--model" in words
    if runs_a_model:
        words += ["--limit", "1"]
        place = words.index("--tasks") + 1
        if command in ON_SEVERAL:  # one task of the group shows as much
            words[place] = ",".join(ONE_OF[name] for name in words[place].split(","))
    ours_alone = command != FIRST  # one that finds ours among all tasks of lm-eval is enough
    process = FORKS.Process(target=readme_command.main_in, args=(str(tmp_path), words, ours_alone))
    process.start()
    process.join(300)
    printed, complained = ((tmp_path / name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    assert process.exitcode == 0, complained[-3000:]
    if runs_a_model:
        (tasks,) = [words[i + 1] for i, word in enumerate(words) if word == "--tasks"]
        scores = re.findall(rf"\|(?:{tasks.replace(',', '|')}) *\|.*\|acc +\|.*?\| *([0-9.]+)\|", printed)
        assert scores, printed
        assert {float(score) for score in scores} == {1.0}
    else:
        assert printed.strip()


@pytest.mark.parametrize(
    "page", sorted((ROOT / "examples").rglob("*.md")), ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_pages_of_the_examples_name_what_is_there(page: Path) -> None:
    """Files in commands and links exist, and options of our scripts are known to them."""
    text = page.read_text(encoding="utf-8")
    for command in commands(text):
        files = re.findall(r"examples/[\w./-]+", command)
        assert all((ROOT / file).exists() for file in files), command
        script = next((ROOT / file for file in files if file.endswith(".py")), None)
        sources = "".join(file.read_text() for file in script.parent.glob("*.py")) if script else ""
        for option in re.findall(r" (--[a-z-]+)", command.partition(str(script and script.name))[2] if script else ""):
            assert f'"{option}"' in sources, f"{command}: {option}"
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_the_examples_are_shipped_items() -> None:
    section = README.split("## What each task asks")[1].split("## How to read")[0]
    for lang in LANGUAGES:
        dialogues = items.load(items.shipped("test", lang))
        for layer in LAYERS:
            shown = [
                doc
                for doc in documents(dialogues, lang, layer)
                if doc["question"] in section and all(option in section for option in doc["options"])
            ]
            assert shown, (lang, layer)
            for doc in shown:
                places = {option: section.index(option) for option in doc["options"]}
                assert min(places, key=lambda option: places[option]) == doc["options"][doc["gold"]]
