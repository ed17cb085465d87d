"""The command line: exact output, exit codes, no traceback for a user's mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import lm_eval
import lm_eval.tasks
import pytest
from lm_eval._cli import HarnessCLI

from eicap_tasks import __version__, cli, context, items, prompts, runner
from eicap_tasks.doctor import findings, hub
from eicap_tasks.documents import documents
from eicap_tasks.errors import EicapError
from eicap_tasks.runner import own_names, run
from eicap_tasks.vocabulary import LANGUAGES

TOY = Path(__file__).parent / "items" / "toy.jsonl"


def eicap(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "eicap_tasks.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_every_command_has_help_with_an_example() -> None:
    root = eicap("--help").stdout
    for command in ("path", "run", "show", "validate", "doctor"):
        assert command in root
        out = eicap(command, "--help")
        assert out.returncode == 0
        assert "Example: " in out.stdout, command
    assert eicap("--version").stdout == f"eicap-tasks {__version__}\n"


def test_path_is_the_folder_of_the_yaml_files() -> None:
    folder = Path(eicap("path").stdout.strip())
    assert (folder / "appraisal_en.yaml").is_file()


def test_show_prints_exactly_the_prompt() -> None:
    docs = {doc["id"]: doc for doc in documents(items.load(TOY), "ar", "response")}
    system = prompts.instruction("ar", "response")
    doc = docs["toy-chat-r"]
    out = eicap("show", "toy-chat-r", "--lang", "ar", "--data", str(TOY))
    assert out.stdout == context.text_prompt(doc, system=system) + "\n"
    out = eicap("show", "toy-chat-r", "--lang", "ar", "--data", str(TOY), "--chat", "--num_fewshot", "1")
    shots = documents(items.load(items.shipped("dev", "ar")), "ar", "response")[:1]
    messages = context.chat_messages(doc, shots, system=system)
    assert out.stdout == "".join(f"<{m['role']}>\n{m['content']}\n\n" for m in messages)


def test_show_knows_the_options_of_a_run() -> None:
    own = {"eicap": {"data": str(TOY), "system": "user", "labels": "arabic"}}
    out = eicap("show", "toy-chat-r", "--chat", "--format", "chain", "--metadata", json.dumps(own)).stdout
    assert "<system>" not in out
    assert out.startswith("<user>\nRead the conversation and answer each question about it.")
    assert "\nأ. “" in out
    choices = {"eicap": {"data": str(TOY), "show": "choices"}}
    out = eicap("show", "toy-chat-t", "--metadata", json.dumps(choices)).stdout
    assert out.startswith("Exactly one of the four options is right.")
    assert "exam" not in out
    broken = eicap("show", "toy-chat-t", "--metadata", "{")
    assert broken.returncode == 2
    assert broken.stderr.startswith("--metadata: found '{' (")
    for other in ("3", "[1]", '"x"'):
        with pytest.raises(EicapError) as caught:
            cli.show("toy-chat-t", metadata=other)
        example = """allowed: an object, as in {"eicap": {"data": "my_items.jsonl"}}; options: data (JSONL file"""
        assert str(caught.value).startswith(f"metadata: found {json.loads(other)!r}, {example}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "toy-chat-x", "--data", str(TOY)], "did you mean 'toy-chat-t'?"),
        (["show", "toy-chat-t", "--lang", "arr"], "--lang: found 'arr', allowed: en, ar; did you mean 'ar'?"),
        (
            ["show", "toy-chat-t", "--data", str(TOY), "--num_fewshot", "50"],
            "--num_fewshot: found 50, allowed for eicap_tracking_en: 0 to ",
        ),
        (["show", "toy-chat-t", "--data", "none.jsonl"], "none.jsonl: no such file or folder"),
        (["validate", "none.jsonl"], "none.jsonl: no such file or folder, expected a JSONL file"),
        (["run"], "eicap run: found no arguments, expected those of lm_eval run"),
        (["run", "--model", "dummy", "--tasks", "eicap_caus_en", "--include_path", "/nonexistent"], None),
        (["run", "--model", "dummy", "--tasks", "eicap,eicap_cause"], "which ask a task twice"),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--metadata", "{'bad"],
            "expected JSON or key=value, as in",
        ),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--num_fewshot", "99"],
            "--num_fewshot: found 99, allowed for",
        ),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--num_fewshot", "-1"],
            "--num_fewshot: found -1, allowed for eicap_tracking_en: 0 to 16",
        ),
        (
            ["show", "toy-chat-t", "--data", str(TOY), "--metadata", '{"eicap": {"data": "x.jsonl"}}'],
            "toy.jsonl, and x.jsonl in --metadata, expected one of them",
        ),
        (["run", "--model", "dummy"], "--tasks: found none, expected one or more, such as eicap_en"),
        (["run", "--config", "none.yaml"], "--config: Config file not found"),
        (["run", "--config", "run.yaml"], "metadata eicap.date: found an unknown option"),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--metadata", '{"eicap_data": "x"}'],
            "metadata: found the key 'eicap_data', allowed: 'eicap', as in",
        ),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--metadata", '{"eicap": {"data": ""}}'],
            "metadata eicap.data: found '', allowed: the path of a JSONL file or of a folder with some",
        ),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--metadata", '{"eicap": {"data": "~nosuch/x"}}'],
            "metadata eicap.data: found '~nosuch/x', allowed: the path of a JSONL file",
        ),
        (["validate", "x" * 300], "File name too long, expected a JSONL file"),
        (
            ["run", "--model", "dummy", "--tasks", "eicap_en", "--metadata", '{"eicap": {"date": "x"}}'],
            "metadata eicap.date: found an unknown option",
        ),
        (
            [
                "run",
                "--model",
                "dummy",
                "--tasks",
                "eicap_ar",
                "--metadata",
                '{"eicap": {"data": "en.jsonl"}}',
            ],
            "en.jsonl: found no probe of the layer 'tracking' in Arabic",
        ),
    ],
)
def test_mistakes_end_with_status_2_and_no_traceback(
    arguments: list[str], expected: str | None, tmp_path: Path
) -> None:
    (tmp_path / "run.yaml").write_text("model: dummy\ntasks: eicap_en\nmetadata: {eicap: {date: x}}\n")
    (tmp_path / "en.jsonl").write_text(TOY.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    out = eicap(*arguments, cwd=tmp_path)
    assert out.returncode == 2
    assert "Traceback" not in out.stderr
    assert (expected or "did you mean 'eicap_cause_en'?") in out.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("batch_sise: auto", "run.yaml: found 'batch_sise', allowed: config, model, model_args, tasks, "),
        ("log_samples: true", "--output_path: found none, expected a folder for the samples that are to be logged"),
        ("metadata: 3", "run.yaml: metadata: found 3, expected names with values"),
    ],
)
def test_a_config_file_that_cannot_be_used(
    line: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(f"model: dummy\ntasks: eicap_en\n{line}\n")
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--config", "run.yaml"])
    with pytest.raises(EicapError) as caught:
        runner._parse(HarnessCLI())
    assert str(caught.value).startswith(expected)


def test_a_config_file_with_values_as_lm_eval_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text("model_args: pretrained=x,dtype=float32\nmetadata: eicap=3\n")
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--config", "run.yaml"])
    given = runner._parse(HarnessCLI())[1]
    assert (given["model_args"], given["metadata"]) == ({"pretrained": "x", "dtype": "float32"}, {"eicap": 3})
    Path("run.yaml").write_text("num_fewshot: 99\n")
    monkeypatch.setattr(sys, "argv", ["lm_eval", "run", "--config", "run.yaml", "--num_fewshot", "0"])
    assert runner._parse(HarnessCLI())[1]["num_fewshot"] == 0


@pytest.mark.parametrize("program", ["lm_eval", "eicap_tasks.cli"])
def test_bad_items_stop_a_run_before_a_model_is_loaded(program: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"id": 3\n[]\n', encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        program,
        "run",
        "--model",
        "hf",
        "--model_args",
        "pretrained=/no/such/model",
    ]
    command += ["--tasks", "eicap_appraisal_en", "--metadata", '{"eicap": {"data": "mine.jsonl"}}']
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert out.returncode == 2
    assert "Traceback" not in out.stderr
    assert out.stderr.strip().splitlines()[-3:] == [
        "mine.jsonl:1: line: found invalid JSON at column 9 (Expecting ',' delimiter), allowed: JSON",
        "mine.jsonl:2: line: found a JSON list, allowed: an object, one dialogue",
        "2 problems found; no item was used.",
    ]


def test_other_errors_of_lm_eval_keep_their_traceback() -> None:
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "no-such-model", "--tasks", "eicap_en"]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.returncode == 1
    assert "Traceback" in out.stderr


def test_validate_counts_what_is_valid() -> None:
    out = eicap("validate", str(TOY))
    assert out.returncode == 0
    assert out.stdout == (
        "Arabic: 2 dialogues, 8 probes (2 tracking, 2 cause, 2 appraisal, 2 response)\n"
        "English: 2 dialogues, 8 probes (2 tracking, 2 cause, 2 appraisal, 2 response)\n"
        f"valid, sha256 {items.digest(items.load(TOY))}\n"
    )


def test_run_gives_what_lm_eval_gives(tmp_path: Path) -> None:
    tables = []
    for program in (["lm_eval"], ["eicap_tasks.cli"]):
        command = [sys.executable, "-m", *program, "run", "--model", "dummy", "--tasks", "eicap_cause_en"]
        command += ["--metadata", f'{{"eicap": {{"data": "{TOY}"}}}}', "--seed", "1"]
        out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        tables.append(re.findall(r"^\|.*\|$", out.stdout, re.MULTILINE))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 4


def test_run_indexes_the_tasks_of_lm_eval_where_they_may_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks.manager import TaskManager

    class IndexedError(Exception):
        """Raised in place of reading 14,000 files."""

    original = TaskManager.__init__

    def spy(self: TaskManager, *args: object, **kwargs: object) -> None:
        if kwargs.get("include_defaults", True):
            raise IndexedError
        original(self, *args, **kwargs)

    monkeypatch.setattr(TaskManager, "__init__", spy)
    monkeypatch.setattr("lm_eval.tasks.TaskManager", TaskManager)
    monkeypatch.setattr("lm_eval.simple_evaluate", lambda **kwargs: None)
    monkeypatch.setattr(sys, "argv", [])
    before = lm_eval.tasks.TaskManager, lm_eval.simple_evaluate
    for tasks in ("eicap_en,arc_easy", "*cause_en"):
        with pytest.raises(IndexedError):
            run(["--model", "dummy", "--tasks", tasks])
    run(["--model", "dummy", "--tasks", "eicap_e*"])
    assert (lm_eval.tasks.TaskManager, lm_eval.simple_evaluate) == before


def test_run_mixes_tasks_without_the_hook(tmp_path: Path) -> None:
    """`eicap doctor` names `eicap run` for where the hook does not work."""
    arguments = ["--model", "dummy", "--tasks", "eicap_cause_en,toy", "--include_path", str(tmp_path), "--limit", "1"]
    (tmp_path / "items.json").write_text('[{"q": "x"}]')
    (tmp_path / "toy.yaml").write_text(
        "task: toy\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'items.json'}}}}}\n"
        "test_split: test\ndoc_to_text: '{{q}}'\ndoc_to_target: 'y'\noutput_type: generate_until\n"
        "generation_kwargs: {until: ['\\n']}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", "run", *arguments],
        env={**os.environ, "EICAP_NO_HOOK": "1"}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "|eicap_cause_en" in done.stdout
    assert "|toy" in done.stdout


def test_own_names() -> None:
    names = own_names()
    assert len(names) == len(set(names)) == 75
    assert {"eicap", "eicap_ar", "eicap_appraisal", "eicap_appraisal_en"} <= set(names)


def test_doctor_finds_everything_in_place() -> None:
    out = eicap("doctor")
    assert out.returncode == 0, out.stdout
    for word in (
        "lm_eval",
        "torch",
        "registration",
        "items, Arabic",
        *(items.digest(items.load(items.shipped("test", lang)))[:16] for lang in LANGUAGES),
        "templates",
        prompts.digest()[:16],
        "model hub",
    ):
        assert word in out.stdout


def test_doctor_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eicap_tasks.doctor._version", lambda package: "" if package == "torch" else "1")
    found = {finding.subject: finding for finding in findings()}
    assert (found["torch"].status, found["torch"].detail) == ("problem", "not installed")
    assert found["torch"].advice == "pip install -U eicap-tasks"
    assert found["device"].detail == "unknown without torch"
    assert found["lm_eval"].status == "problem"
    assert found["lm_eval"].detail.startswith("1, allowed: ")
    monkeypatch.setattr("eicap_tasks.prompts.templates_dir", lambda: Path("/nonexistent"))
    templates = next(finding for finding in findings() if finding.subject == "templates")
    assert (templates.status, templates.advice) == ("problem", "reinstall eicap-tasks")


def test_hub_reached_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(BaseHTTPRequestHandler):
        status = 204

        def do_HEAD(self) -> None:
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert (hub().status, hub().detail) == ("note", "offline, by HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_ENDPOINT", "http://a b")
    assert hub().status == "note"
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert (hub().status, hub().detail) == ("ok", f"{address} can be reached")
    Answer.status = 503
    assert (hub().status, hub().detail) == ("note", f"{address} answers with status 503")
    server.shutdown()
    server.server_close()
    assert hub(timeout_s=1).status == "note"
    assert "cannot be reached" in hub(timeout_s=1).detail
    monkeypatch.setenv("HF_ENDPOINT", "http://[x")
    assert hub().detail == "http://[x cannot be reached (Invalid IPv6 URL)"
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    assert hub().status == "problem"
