"""Generated answers from a real OpenAI-compatible server on loopback, and from servers that fail."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.models.openai_completions import LocalChatCompletion

from eicap_tasks import context, items, prompts
from eicap_tasks.errors import EicapError
from eicap_tasks.filters import UNPARSED, AnswerFilter
from eicap_tasks.signature import signatures
from eicap_tasks.views import view

TOY = Path(__file__).parent / "items" / "toy.jsonl"


def run(command: str, url: str, *arguments: str, model: str = "m", task: str = "eicap_gen") -> Any:
    """Run `lm_eval` or `eicap run` in a process of its own, as a user does."""
    start = ["-m", "eicap_tasks.cli", "run"] if command == "eicap" else ["-m", "lm_eval", "run"]
    own = json.dumps({"eicap": {"data": str(TOY)}})
    model_args = f"model={model},base_url={url}/v1/chat/completions,max_retries=1"
    given = ["--model", "local-chat-completions", "--model_args", model_args, "--tasks", task, "--metadata", own]
    return subprocess.run(
        [sys.executable, *start, *given, "--apply_chat_template", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENAI_API_KEY": "none"},
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def folder(small_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as an ordinary folder: the server cannot name a GGUF file that has no architecture entry."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    arguments = dict(pair.split("=", 1) for pair in small_model.split(","))
    source, gguf = arguments["pretrained"], arguments["gguf_file"]
    path = tmp_path_factory.mktemp("smollm2")
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=gguf, dtype="float32", quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [str(Path(sys.executable).parent / "transformers"), "serve", str(folder), "--device", "cpu"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], stdout=out, stderr=out, env={**os.environ}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert process.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        else:
            raise AssertionError(log.read_text())
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.model
def test_a_real_server_answers_every_task(server: str, folder: Path, tmp_path: Path) -> None:
    few = ["--limit", "1", "--gen_kwargs", "max_gen_toks=8"]
    out = run("eicap", server, *few, "--output_path", str(tmp_path), "--log_samples", model=str(folder))
    assert out.returncode == 0, out.stderr[-3000:]
    (file,) = tmp_path.rglob("results_*.json")
    results = json.loads(file.read_text(encoding="utf-8"))
    assert len(signatures(results)) == 8
    assert 0 <= results["results"]["eicap_gen"]["parse_rate,read"] <= 1
    samples = [json.loads(line) for f in tmp_path.rglob("samples_*.jsonl") for line in f.open(encoding="utf-8")]
    assert len(samples) == 8
    assert all(isinstance(sample["resps"][0][0], str) for sample in samples)
    assert any(sample["resps"][0][0].strip() for sample in samples)


@contextmanager
def stub(answer: Callable[[int], tuple[int, bytes]]) -> Iterator[tuple[str, list[Any]]]:
    """Serve what `answer` says for the request of this number; keep the messages that were sent."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = answer(len(asked))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", asked
    finally:
        httpd.shutdown()


def saying(text: str | None) -> tuple[int, bytes]:
    return 200, json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()


def test_the_server_is_sent_the_chat_messages() -> None:
    with stub(lambda n: saying("A")) as (url, asked):
        out = run("eicap", url, task="eicap_cause_en_gen")
    assert out.returncode == 0, out.stderr[-3000:]
    docs = view(items.load(TOY), "en", "cause", "gen")
    system = prompts.instruction("en", "cause")
    expected = [context.chat_messages(doc, system=system) for doc in docs]
    assert sorted((a["messages"] for a in asked), key=str) == sorted(expected, key=str)
    stop = ["\n\nSetting:", "\n\nQuestion about", "\n\nالموقف:", "\n\nسؤال عن"]  # no API takes more than four
    assert all(a["temperature"] == 0 and a["stop"] == stop for a in asked)


@pytest.mark.parametrize(
    ("command", "answer", "expected"),
    [
        ("eicap", None, "the model's server: found ConnectionError("),
        ("eicap", (500, b"{}"), "the model's server: found HTTPError('500 Server Error"),
        ("lm_eval", (500, b"{}"), "the model's server: found HTTPError('500 Server Error"),
        ("eicap", (200, b"<html>no"), "the model's server: found JSONDecodeError("),
    ],
)
def test_a_server_that_fails_gives_a_clear_end(command: str, answer: tuple[int, bytes] | None, expected: str) -> None:
    if answer is None:
        out = run(command, f"http://127.0.0.1:{free_port()}", task="eicap_cause_en_gen")
    else:
        with stub(lambda n: answer) as (url, _):
            out = run(command, url, task="eicap_cause_en_gen")
    assert out.returncode == 2
    assert "Traceback" not in out.stderr
    assert expected in out.stderr
    assert "run the same command again once the server is well\n" in out.stderr


def test_an_answer_that_says_nothing_counts_as_unread() -> None:
    empty = [saying(None), saying(""), (200, b'{"error": "filtered"}')]
    with stub(lambda n: empty[n % 3] if n % 2 else saying("A")) as (url, asked):  # one of a task's two
        out = run("eicap", url, task="eicap_gen_en")
    assert out.returncode == 0, out.stderr[-3000:]
    assert len(asked) == 8
    rates = [line.split("|")[7].strip() for line in out.stdout.splitlines() if "parse_rate" in line]
    assert rates == ["0.500"] * 6  # of the group and its tasks, and of the group again


NOTHING = (
    "eicap_cause_en_gen: found no text in any of the 2 answers, expected text. Causes are a server that sends "
    "something else, such as an error, with status 200 (lm-eval then warns 'Could not parse generations'), a thinking "
    "that --gen_kwargs max_gen_toks cuts off, and a model asked without its chat template. The database that "
    "--use_cache names holds what came: delete it, or name another, before you run the command again"
)


def test_a_server_that_answers_valid_nonsense_gives_a_clear_end(tmp_path: Path) -> None:
    """Empty answers stay in the cache, as the message says: a server that is well again is not asked."""
    cache = ["--use_cache", str(tmp_path / "answers")]
    with stub(lambda n: (200, b'{"error": {"message": "overloaded"}}')) as (url, asked):
        out = run("eicap", url, *cache, task="eicap_cause_en_gen")
        assert (out.returncode, len(asked)) == (2, 2)
        assert "Traceback" not in out.stderr
        assert NOTHING in out.stderr.splitlines()
    with stub(lambda n: saying("A")) as (url, asked):
        out = run("eicap", url, *cache, task="eicap_cause_en_gen")
        assert (out.returncode, len(asked)) == (0, 0)
        assert out.stderr.count(f"{NOTHING}. They count as no answer.\n") == 1


def test_answers_that_no_model_gives(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    docs: list[Any] = list(view(items.load(TOY), "en", "cause", "gen"))
    monkeypatch.setattr(UNPARSED, "seen", False)
    assert AnswerFilter().apply([[""], [" \n"]], docs) == [[None], [None]]  # a model that is silent
    assert caplog.messages == [f"{NOTHING}. They count as no answer."]
    with pytest.raises(EicapError) as caught:
        AnswerFilter().apply([["A"], [5]], docs)
    assert str(caught.value).startswith("eicap_cause_en_gen: found 5 as an answer, expected text. Causes are ")
    assert LocalChatCompletion.parse_generations(SimpleNamespace(), {"error": "overloaded"}) == [""]
    with pytest.raises(EicapError) as caught:
        AnswerFilter().apply([[""], [" \n"]], docs)
    assert str(caught.value) == NOTHING
    monkeypatch.setattr(UNPARSED, "seen", False)
    caplog.set_level(logging.ERROR, "lm_eval")  # LMEVAL_LOG_LEVEL=ERROR
    before = len(caplog.messages)
    assert LocalChatCompletion.parse_generations(SimpleNamespace(), {"error": "overloaded"}) == [""]
    assert (UNPARSED.seen, len(caplog.messages)) == (True, before)
    assert AnswerFilter().apply([[""], ["A"]], docs) == [[None], [0]]
    assert AnswerFilter().apply([], []) == []  # a process that was given no document


@pytest.mark.parametrize("concurrent", [1, 2])
def test_what_was_answered_is_kept(tmp_path: Path, concurrent: int) -> None:
    cache = ["--use_cache", str(tmp_path / "answers"), "--output_path", str(tmp_path / "out")]
    gone = threading.Event()

    def three_answers(n: int) -> tuple[int, bytes]:
        return saying("A") if n <= 3 or gone.is_set() else (500, b"{}")

    with stub(three_answers) as (url, asked):
        first = run("eicap", f"{url}", *cache, task="eicap_gen_en", model=f"m,num_concurrent={concurrent}")
        assert first.returncode == 2
        before = len(asked)
        gone.set()
        second = run("eicap", f"{url}", *cache, task="eicap_gen_en", model=f"m,num_concurrent={concurrent}")
        assert second.returncode == 0, second.stderr[-3000:]
        assert len(asked) - before == 8 - 3
    (file,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(file.read_text(encoding="utf-8"))["results"]["eicap_gen_en"]["parse_rate,read"] == 1.0
