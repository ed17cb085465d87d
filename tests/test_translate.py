"""Chats translated by models that are really loaded, and by a real server on loopback that may fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path[:0] = [str(EXAMPLES / "finetune"), str(EXAMPLES / "translate")]

from chats import Chat  # noqa: E402
from seq2seq import Seq2Seq  # noqa: E402
from splitting import FENCE, Piece, split  # noqa: E402
from translate import main, translations  # noqa: E402
from translation_checks import Limits, find_problem, repetition, script_share  # noqa: E402
from translator import Translation  # noqa: E402

KEPT_CODE = "```python\nprint('hello')\n```"
ARABIC = {
    "Hello.": "مرحبا.",
    "You are a kind helper.": "أنت مساعد لطيف.",
    "I lost my job yesterday.": "فقدت وظيفتي أمس.",
    "I am sorry to hear that.": "يؤسفني سماع ذلك.",
    "How do I print a word in Python?": "كيف أطبع كلمة في بايثون؟",
    "Like this:": "هكذا:",
    "It prints one line.": "يطبع سطرا واحدا.",
    "Will you copy this sentence?": "Will you copy this sentence?",
    "Of course I will.": "بالطبع سأفعل.",
    "Thank you so much.": "شكرا جزيلا لك.",
    "Any time.": "على الرحب.",
}


def said(*texts: str, system: str | None = None) -> list[dict[str, str]]:
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return [{"role": "system", "content": system}, *turns] if system else turns


CODE_CHAT = said("How do I print a word in Python?", f"Like this:\n\n{KEPT_CODE}\n\n  It prints one line.\n")
CHATS: list[dict[str, Any]] = [
    {
        "id": "job",
        "messages": said("I lost my job yesterday.", "I am sorry to hear that.", system="You are a kind helper."),
    },
    {"id": "code", "messages": CODE_CHAT},
    {"id": "copied", "messages": said("Will you copy this sentence?", "Of course I will.")},
    {"id": "thanks", "data": ["Thank you so much.", "Any time.", "42", "👍"]},
]
KEPT = [
    {
        "id": "job",
        "lang": "ar",
        "messages": said("فقدت وظيفتي أمس.", "يؤسفني سماع ذلك.", system="أنت مساعد لطيف."),
    },
    {
        "id": "code",
        "lang": "ar",
        "messages": said("كيف أطبع كلمة في بايثون؟", f"هكذا:\n\n{KEPT_CODE}\n\n  يطبع سطرا واحدا.\n"),
    },
    {"id": "thanks", "lang": "ar", "messages": said("شكرا جزيلا لك.", "على الرحب.", "42", "👍")},
]
DROPPED = [
    {
        "id": "copied",
        "turn": 1,
        "role": "user",
        "reason": "identical",
        "detail": "found the source itself, allowed: a translation",
        "source": "Will you copy this sentence?",
        "translation": "Will you copy this sentence?",
    }
]
SUMMARY = "4 chats: 3 (75.0%) translated in {out}, 1 (25.0%) dropped, see {dropped}\n  identical: 1 (25.0%)\n"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps(chat) + "\n" for chat in CHATS), encoding="utf-8")
    return file


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


Answer = tuple[int, bytes, dict[str, str]]


def answer(text: str, end: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": end}
    return 200, json.dumps({"choices": [choice]}).encode(), {}


def translated(number: int, text: str) -> Answer:
    return answer(ARABIC[text])


class Asked(list[tuple[dict[str, Any], str | None]]):
    """Requests with their keys."""

    @property
    def texts(self) -> list[str]:
        return [text_of(body) for body, _ in self]


def text_of(body: dict[str, Any]) -> str:
    content: str = body["messages"][0]["content"]
    return content[content.index("<text>\n") + 7 : content.rindex("\n</text>")]


@contextmanager
def serving(say: Callable[[int, str], Answer | None]) -> Iterator[tuple[list[str], Asked]]:
    """Answer requests by number and text, and die where there is no answer; yield the options to use it."""
    asked = Asked()

    def die() -> None:
        server.shutdown()
        server.server_close()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((body, self.headers["Authorization"]))
            said = say(len(asked), text_of(body)) if self.path == "/v1/chat/completions" else (404, b"no such path", {})
            if said is None:
                die()
                return
            status, content, headers = said
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # with five, of sixteen that come at once some wait a second

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield ["--api", f"http://127.0.0.1:{server.server_port}/v1", "--model", "m"], asked
    finally:
        die()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were to be waited before further tries."""
    slept: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time", SimpleNamespace(sleep=slept.append, time=time.time))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return slept


def test_roles_turns_code_and_order_are_kept(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    out, dropped = tmp_path / "new" / "ar.jsonl", tmp_path / "new" / "ar.dropped.jsonl"
    with serving(translated) as (api, asked):
        assert main([str(chats), str(out), *api]) == 0
    assert lines(out) == KEPT
    assert lines(dropped) == DROPPED
    assert capsys.readouterr().out == SUMMARY.format(out=out, dropped=dropped)
    assert asked.texts[0] == "Hello."
    assert sorted(asked.texts) == sorted(ARABIC)
    body, key = asked[0]
    assert key == "Bearer secret"
    assert body.keys() == {"model", "temperature", "messages"}
    assert (body["model"], body["temperature"]) == ("m", 0)
    assert [message["role"] for message in body["messages"]] == ["user"]
    assert "into Modern Standard Arabic." in body["messages"][0]["content"]
    assert "secret" not in (tmp_path / "new" / "ar.meta.json").read_text()


def test_a_trial_that_is_cut_off_says_nothing_of_the_rest(chats: Path, tmp_path: Path) -> None:
    with serving(lambda n, text: answer("مر", "length") if n == 1 else translated(n, text)) as (api, _):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api]) == 0
    assert lines(tmp_path / "ar.jsonl") == KEPT


def test_requests_go_out_together_and_fields_can_be_changed(chats: Path, tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def waiting_for_another(number: int, text: str) -> Answer:
        if text in ("You are a kind helper.", "I lost my job yesterday."):
            together.wait(timeout=10)
        return translated(number, text)

    body = ["--body", '{"temperature": null, "top_p": 0.5}']
    with serving(waiting_for_another) as (api, asked):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api, *body, "--batch-size", "2"]) == 0
    assert lines(tmp_path / "ar.jsonl") == KEPT
    assert all("temperature" not in body and body["top_p"] == 0.5 and key is None for body, key in asked)


def test_a_busy_server_is_asked_again(chats: Path, tmp_path: Path, waits: list[float]) -> None:
    failures: list[Answer] = [(500, b"", {}), (429, b"", {"Retry-After": "7"}), (503, b"", {"Retry-After": "3600"})]

    def busy_at_first(number: int, text: str) -> Answer:
        return failures[number - 3] if 3 <= number <= 5 else translated(number, text)

    with serving(busy_at_first) as (api, asked):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api, "--batch-size", "1"]) == 0
    assert waits == [7.0, 60.0]  # at once; 7 s rather than 2 s, as asked; an hour is too long
    assert asked.texts[2:6] == [asked.texts[2]] * 4
    assert lines(tmp_path / "ar.jsonl") == KEPT


def test_dropped_connections_are_tried_again(
    chats: Path, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ThreadingHTTPServer, "handle_error", lambda *_: None)  # it would print the error

    def dropped_thrice(number: int, text: str) -> Answer:
        if 3 <= number <= 5:
            raise ConnectionAbortedError
        return translated(number, text)

    with serving(dropped_thrice) as (api, asked):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api, "--batch-size", "1"]) == 0
    assert waits == [2.0, 4.0]  # the first time at once
    assert asked.texts[2:6] == [asked.texts[2]] * 4
    assert lines(tmp_path / "ar.jsonl") == KEPT


@pytest.mark.parametrize("silences", [1, 2])
def test_a_silent_server_is_asked_once_more(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, silences: int
) -> None:
    monkeypatch.setattr(ThreadingHTTPServer, "handle_error", lambda *_: None)
    monkeypatch.setattr("chat_api.TIMEOUT", 0.5)
    ended, slow = threading.Event(), "How do I print a word in Python?"

    def silent(number: int, text: str) -> Answer:
        if text == slow and asked.texts.count(slow) <= silences:
            ended.wait(timeout=30)
        return translated(number, text)

    with serving(silent) as (api, asked):
        status = main([str(chats), str(tmp_path / "ar.jsonl"), *api, "--batch-size", "1"])
        ended.set()
    assert asked.texts.count(slow) == 2
    if silences == 1:
        assert status == 0
        assert lines(tmp_path / "ar.jsonl") == KEPT
    else:
        assert status == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "ReadTimeoutError(" in error
        assert error.endswith("; 1 of 4 chats are done and kept: the same command goes on")


@pytest.mark.parametrize(
    ("failure", "found", "tries"),
    [
        ((401, b'{"error": "wrong\n key"}', {}), 'found 401: {"error": "wrong key"}, expected the answer of an', 1),
        ((404, b"", {}), "found 404: nothing, expected the answer of an OpenAI-compatible API", 1),
        ((502, b"bad", {}), "found 502: bad, expected", 7),
        ((200, b"<html>", {}), "found <html>, expected a chat completion", 1),
        ((200, b'{"choices": []}', {}), 'found {"choices": []}, expected a chat completion', 1),
        ((200, b'{"choices": [{"message": {"content": 5}}]}', {}), "expected a chat completion", 1),
    ],
)
def test_a_refusal_ends_clearly_and_what_was_done_is_kept(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: Answer, found: str, tries: int
) -> None:
    with serving(lambda n, text: failure if n > 4 else translated(n, text)) as (api, asked):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api, "--batch-size", "1"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"{api[1]}/chat/completions: ")
    assert found in error
    assert error.endswith("; 1 of 4 chats are done and kept: the same command goes on")
    assert lines(tmp_path / "ar.jsonl") == KEPT[:1]  # the trial and three messages
    assert 4 + tries <= len(asked) <= 4 + 2 * tries  # one more may be under way


@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_model_or_key_ends_at_once(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    with serving(lambda n, text: (status, b"no such model", {})) as (api, asked):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api]) == 2
    assert f"/v1/chat/completions: found {status}: no such model, expected" in capsys.readouterr().err
    assert len(asked) == 1
    assert list(tmp_path.glob("ar.*")) == []


def test_what_is_refused_cut_off_or_empty_drops_one_chat(chats: Path, tmp_path: Path) -> None:
    bad = {
        "You are a kind helper.": (400, b"too long", {}),
        "How do I print a word in Python?": answer("كيف", "length"),
        "Thank you so much.": answer("", "content_filter"),
        "Will you copy this sentence?": (200, b'{"choices": [{"message": {"content": null}}]}', {}),
    }
    with serving(lambda n, text: bad.get(text) or translated(n, text)) as (api, _):
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api]) == 0
    assert not (tmp_path / "ar.jsonl").exists()
    assert [(r["id"], r["reason"], r["detail"]) for r in lines(tmp_path / "ar.dropped.jsonl")] == [
        ("job", "refused", "found 400: too long, expected an answer"),
        ("code", "cut off", "found the finish_reason length, allowed: stop"),
        ("copied", "empty", "found nothing for 'Will you copy this sentence?', allowed: a text"),
        ("thanks", "refused", "found the finish_reason content_filter, allowed: stop"),
    ]


@pytest.mark.parametrize("concurrent", ["1", "3"])
@pytest.mark.parametrize("last", [3, 5, 8, 9])
def test_after_an_interruption_the_files_are_the_same(chats: Path, tmp_path: Path, last: int, concurrent: str) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    size = ["--batch-size", concurrent]
    with serving(translated) as (api, first):
        assert main([str(chats), str(whole / "ar.jsonl"), *api, *size]) == 0
    with serving(lambda n, text: translated(n, text) if n <= last else None) as (api, _):
        assert main([str(chats), str(parts / "ar.jsonl"), *api, *size]) == 2
    done = [record["id"] for file in parts.glob("ar*.jsonl") for record in lines(file)]
    assert len(done) < 4
    with serving(translated) as (api, again):  # at another port
        assert main([str(chats), str(parts / "ar.jsonl"), *api, *size]) == 0
    assert {file.name: file.read_bytes() for file in whole.iterdir()} == {
        file.name: file.read_bytes() for file in parts.iterdir()
    }
    assert len(again) <= len(first)
    assert (len(again) < len(first)) == bool(done)  # what was done is not asked again


@pytest.mark.parametrize(("name", "cut"), [("ar.jsonl", 1), ("ar.jsonl", 60), ("ar.dropped.jsonl", 20)])
def test_a_half_written_line_is_done_again(chats: Path, tmp_path: Path, name: str, cut: int) -> None:
    file = tmp_path / name
    with serving(translated) as (api, asked):
        command = [str(chats), str(tmp_path / "ar.jsonl"), *api]
        assert main(command) == 0
        before, count = file.read_bytes(), len(asked)
        file.write_bytes(before[:-cut])
        assert main(command) == 0
        assert count < len(asked) <= count + 3
    assert file.read_bytes() == before


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_killed_process_goes_on(chats: Path, tmp_path: Path, how: signal.Signals, status: int) -> None:
    """The command as a user calls it, killed or interrupted."""

    def kill_at_the_sixth(number: int, text: str) -> Answer:
        if number == 6:
            process.send_signal(how)
            time.sleep(0.5)
        return translated(number, text)

    with serving(kill_at_the_sixth) as (api, _):
        command = [str(chats), str(tmp_path / "ar.jsonl"), *api, "--batch-size", "1"]
        script = str(EXAMPLES / "translate" / "translate.py")
        process = subprocess.Popen(
            [sys.executable, script, *command],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where a shell runs us with &
        )
        _, error = process.communicate(timeout=60)
        assert process.returncode == status
        assert "Traceback" not in error
        done = lines(tmp_path / "ar.jsonl")
        assert done in (KEPT[:1], KEPT[:2])
        assert main(command) == 0
    assert lines(tmp_path / "ar.jsonl") == KEPT
    assert lines(tmp_path / "ar.dropped.jsonl") == DROPPED


def test_what_is_done_is_not_done_again_and_more_chats_can_follow(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ar.jsonl"
    with serving(translated) as (api, asked):
        assert main([str(chats), str(out), *api, "--limit", "2"]) == 0
        assert capsys.readouterr().out == f"2 chats: 2 (100.0%) translated in {out}, 0 (0.0%) dropped\n"
        assert main([str(chats), str(out), *api]) == 0
        count = len(asked)
        assert main([str(chats), str(out), *api]) == 0
        assert len(asked) == count == 2 + len(ARABIC) - 1  # two trials, and every text but that of the trial once
    summary = SUMMARY.format(out=out, dropped=tmp_path / "ar.dropped.jsonl")
    assert capsys.readouterr().out == summary * 2
    assert lines(out) == KEPT


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--model", "other"], 'model: found "other", expected "m", as before'),
        (["--to", "fa"], 'to: found "fa", expected "ar", as before'),
        (["--min-script", "0.5"], "min_script: found 0.5, expected 0.7, as before"),
        (["--length-ratio", "0.1", "9"], "length_ratio: found [0.1, 9.0], expected [0.4, 2.5], as before"),
        (["--body", '{"n": 1}'], 'body: found {"n": 1}, expected null, as before'),
        (["--limit", "3"], "chats: found 3 chats, expected the 4 of before, or more"),
    ],
)
def test_other_settings_are_refused(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], expected: str
) -> None:
    out = tmp_path / "ar.jsonl"
    with serving(translated) as (api, _):
        assert main([str(chats), str(out), *api]) == 0
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
        capsys.readouterr()
        assert main([str(chats), str(out), *api, *change]) == 2
    meta = tmp_path / "ar.meta.json"
    assert capsys.readouterr().err == f"{meta}: {expected}; give another OUT to begin anew\n"
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_other_chats_and_foreign_files_are_refused(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, meta = tmp_path / "ar.jsonl", tmp_path / "ar.meta.json"
    with serving(translated) as (api, _):
        assert main([str(chats), str(out), *api]) == 0
        chats.write_text(chats.read_text(encoding="utf-8").replace("my job", "my cat"), encoding="utf-8")
        capsys.readouterr()
        assert main([str(chats), str(out), *api]) == 2
        assert f"{meta}: chats: found other chats, expected the 4 of before, or more" in capsys.readouterr().err
        meta.write_text("{}", encoding="utf-8")
        assert main([str(chats), str(out), *api]) == 2
        assert f"{meta}: found KeyError('settings'), expected what this command wrote" in capsys.readouterr().err
        meta.unlink()
        assert main([str(chats), str(out), *api]) == 2
        assert f"{out}: found it without ar.meta.json, so it is not of this command" in capsys.readouterr().err
        assert lines(out) == KEPT
        assert main([str(chats), str(chats), *api]) == 2
        assert f"{chats}: found it without chats.meta.json" in capsys.readouterr().err


def test_a_broken_line_is_named(chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ar.jsonl"
    with serving(translated) as (api, _):
        assert main([str(chats), str(out), *api]) == 0
        out.write_bytes(out.read_bytes().replace(b'{"id": "code"', b'{"no": "code"'))
        assert main([str(chats), str(out), *api]) == 2
    assert f"{out}:2: found KeyError('id'), expected a line that this command wrote" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--to", "xx", "--api", "http://h", "--model", "m"], "--to: found 'xx', allowed: am, apc, ar, "),
        (["--min-script", "7", "--model", "m"], "--min-script: found 7.0, allowed: 0 to 1"),
        (["--length-ratio", "2", "1", "--model", "m"], "--length-ratio: found 2.0 1.0, allowed: two numbers from 0"),
        (["--length-ratio", "0", "inf", "--model", "m"], "--length-ratio: found 0.0 inf, allowed: two numbers from 0"),
        (["--api", "localhost", "--model", "m"], "--api: found 'localhost', expected an address such as http://"),
        (["--api", "http://h:x/v1", "--model", "m"], "found InvalidURL("),
        (["--api", "http://127.0.0.1:9/v1", "--model", "m"], "Connection refused"),
        (["--api", "http://h", "--model", "m", "--device", "cpu"], "--device: found it with --api"),
        (["--model", "m", "--body", "{}"], "--body: found it without --api"),
        (["--model", "no/such/model"], "--model: found 'no/such/model', expected a seq2seq model of transformers"),
    ],
)
def test_mistakes_are_told_in_a_line(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main([str(chats), str(tmp_path / "ar.jsonl"), *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == ["chats.jsonl"]


def test_files_that_cannot_be_read_or_written(
    chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(tmp_path / "no.jsonl"), str(tmp_path / "ar.jsonl"), "--model", "m"]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'no.jsonl'}: found no such file\n"
    assert main([str(chats), str(tmp_path / "ar.txt"), "--model", "m"]) == 2
    assert capsys.readouterr().err == f"OUT: found '{tmp_path / 'ar.txt'}', expected a name that ends in .jsonl\n"
    with serving(translated) as (api, _):
        assert main([str(chats), str(chats / "ar.jsonl"), *api]) == 2
        assert "expected a file to write" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", "sécret")
        assert main([str(chats), str(tmp_path / "ar.jsonl"), *api]) == 2
    assert capsys.readouterr().err.startswith("OPENAI_API_KEY: found characters that are not printable ASCII")


def test_half_of_a_surrogate_pair_survives(tmp_path: Path) -> None:
    file, out = tmp_path / "chats.jsonl", tmp_path / "ar.jsonl"
    file.write_text(json.dumps({"id": "a", "messages": said("I lost my job.", "```\ud83d```")}) + "\n")
    with serving(lambda n, text: answer("فقدت عملي.\udcff")) as (api, _):
        assert main([str(file), str(out), *api]) == 0
        assert main([str(file), str(out), *api]) == 0
    assert lines(out) == [{"id": "a", "lang": "ar", "messages": said("فقدت عملي.\udcff", "```\ud83d```")}]


LONG = "The quick brown fox jumps over the lazy dog while a tired old cat watches from the kitchen window sill"[:100]


@pytest.mark.parametrize(
    ("source", "target", "reason", "detail"),
    [
        ("Ten letters in it", "ا" * 7 + "abc", None, ""),
        (
            "Ten letters in it",
            "ا" * 69 + "b" * 30,
            "script",
            "found 0.697 of the letters in ARABIC, allowed: 0.7 or more",
        ),
        ("Ten letters in it", "اااااا abcd", "script", "found 0.600 of the letters in ARABIC, allowed: 0.7 or more"),
        ("A word", "abc", None, ""),  # under four letters
        ("A word", "abcd", "script", "found 0.000 of the letters in ARABIC, allowed: 0.7 or more"),
        ("See https://example.org/long and `code_of_it`", "انظر https://example.org/long و`code_of_it`", None, ""),
        (LONG, "ا" * 30, None, ""),  # 0.4 * 100 - 10
        (LONG, "ا" * 29, "length", "found 29 characters for 100, allowed: 30 to 260"),
        (LONG, "ا" * 260, None, ""),  # 2.5 * 100 + 10
        (LONG, "ا" * 261, "length", "found 261 characters for 100, allowed: 30 to 260"),
        ("Yes", "ا" * 17, None, ""),  # 2.5 * 3 + 10 = 17.5
        ("Yes", "ا" * 18, "length", "found 18 characters for 3, allowed: 1 to 17"),
        ("A word", " \n", "empty", "found nothing, allowed: a text"),
        ("A word", "`a word`", "empty", "found nothing, allowed: a text"),
        ("The same text.", "the  same text", "identical", "found the source itself, allowed: a translation"),
        ("OK!", "OK!", None, ""),
        ("2 + 2 = 4", "2 + 2 = 4", None, ""),
        ("```\nall code\n```", "```\nall code\n```", None, ""),
        ("A word", "كلمة<|im_end|>", "markup", "found 1 more pieces of chat markup than in the source, allowed: none"),
        ("A word <name>", "كلمة <اسم>", None, ""),
    ],
)
def test_checks_at_their_limits(source: str, target: str, reason: str | None, detail: str) -> None:
    problem = find_problem(source, target, Limits())
    assert (problem.reason, problem.detail) == (reason, detail) if problem else reason is None


def words(count: int, first: int = 0) -> str:
    """So many words, none like another."""
    return " ".join(f"كلمة{number}" for number in range(first, first + count))


def test_repetition() -> None:
    thrice = " ".join(["قلت لك هذا أمس"] * 3)
    assert repetition(f"{thrice} {words(12)}") == (3 * 4) / 24
    assert repetition(f"{words(11)} {thrice}") == (3 * 4) / 23
    assert repetition(" ".join(["قلت لك هذا أمس"] * 2)) == 0  # said twice
    assert repetition("لا " * 20) == 1  # every word is in one of 17 overlapping 4-grams
    assert repetition("是的我知道" * 5) == (5 * 4) / 25  # without spaces, every character is a word
    source = "a" * len(f"{thrice} {words(12)}")
    assert find_problem(source, f"{thrice} {words(12)}", Limits()) is None
    problem = find_problem(source, f"{thrice} {words(11)}", Limits())
    assert problem is not None
    assert problem.detail == "found one 4-gram in 0.522 of the words, allowed: 0.5 or less"


@pytest.mark.parametrize(
    ("lang", "text", "share"),
    [
        ("ar", "قال: Python سهلة", 7 / 13),
        ("ja", "カタカナとひらがなと漢字ー", 1.0),
        ("zh", "汉字 ABC", 0.4),
        ("ko", "한국어 ABC", 0.5),
        ("sr", "ћирилица latinica", 1.0),
        ("ru", "Привет Bob", 6 / 9),
        ("fr", "déjà vu 😀 1234", 1.0),
    ],
)
def test_script_share(lang: str, text: str, share: float) -> None:
    assert script_share(text, lang) == pytest.approx(share)


def pieces(text: str, size: int | None = None) -> list[Piece]:
    return split(text, (lambda piece: len(piece) <= size) if size else None)


def test_translations_by_careful_translators_pass() -> None:
    turns: dict[tuple[str, int], dict[str, str]] = {}
    for file in (EXAMPLES.parent / "eicap_tasks" / "data").glob("*/*/*.jsonl"):
        for dialogue in lines(file):
            for place, turn in enumerate(dialogue["turns"]):
                turns.setdefault((dialogue["id"], place), {})[dialogue["lang"]] = turn["text"]
    pairs = [(turn["en"], turn["ar"]) for turn in turns.values() if len(turn) == 2]
    assert len(pairs) > 2000
    assert [english for english, arabic in pairs if find_problem(english, arabic, Limits("ar"))] == []
    assert [arabic for english, arabic in pairs if find_problem(arabic, english, Limits("en"))] == []


def test_splitting() -> None:
    text = '# A list\n\n- One thing. And another!\n  2) Dr. Fox said "No." Then, e.g. this\n\n```\na. code\n```\n> 5'
    assert [piece for piece, ours in pieces(text, 50) if ours] == [
        "A list",
        "One thing.",
        "And another!",
        'Dr. Fox said "No."',
        "Then, e.g. this",
    ]
    assert [piece for piece, ours in pieces(text) if ours] == [text[: text.index("\n\n```")]]
    cut = [("one,", True), (" ", False), ("two", True), (" ", False), ("three four", True)]
    assert pieces("one, two three four", 12) == cut
    assert pieces("abcdefgh", 3) == [("ab", True), ("cd", True), ("ef", True), ("gh", True)]
    assert pieces("好。你呢？", 9) == [("好。", True), ("你呢？", True)]
    assert pieces("Text ```not closed", 9) == [("Text", True), (" ", False), ("```not closed", False)]
    assert pieces("") == pieces("", 5) == []


class Identity:
    """A model that translates a text into itself, and can take 20 characters."""

    def split(self, text: str) -> list[Piece]:
        return pieces(text, 20)

    def stream(self, texts: Iterable[str]) -> Iterator[Translation]:
        return map(Translation, texts)


PARTS = [
    "```",
    "`",
    ". ",
    "! ",
    "؟ ",
    "。",
    "\n",
    "\r\n",
    "\n\n",
    "- ",
    "1. ",
    "# ",
    ", ",
    " ",
    "\u00a0",
    "e.g. ",
    "Dr. ",
]
TEXTS = st.lists(st.sampled_from(PARTS) | st.text(max_size=30), max_size=20).map("".join)


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_what_is_split_and_joined_is_the_same(texts: list[str]) -> None:
    chat = Chat("a", [{"role": "user", "content": text} for text in texts])
    ((_, joined),) = translations([chat], Identity())
    assert joined == [Translation(text) for text in texts]
    for text in texts:
        for piece, ours in pieces(text, 20):
            assert not ours or (len(piece) <= 20 and piece == piece.strip() and "```" not in piece)
        kept = "".join(piece for piece, ours in pieces(text, 20) if not ours)
        assert all(code in kept for code in FENCE.findall(text))


PAIRS = {
    "arb_Arab": {
        "I lost my job.": "فقدت عملي.",
        "That sounds hard.": "هذا يبدو صعبا.",
        "How are you today?": "كيف حالك اليوم؟",
        "Not well.": "لست بخير.",
    },
    "fra_Latn": {"I lost my job.": "Emploi perdu.", "Not well.": "Pas bien."},
}


@pytest.fixture(scope="module")
def nllb(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny NLLB, which has learnt six sentences by heart."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration, NllbTokenizer

    folder = str(tmp_path_factory.mktemp("nllb"))
    pairs = [(lang, *pair) for lang, known in PAIRS.items() for pair in known.items()]
    vocabulary, merges = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, []
    for word in [f"▁{word}" for _, *sentences in pairs for sentence in sentences for word in sentence.split()]:
        for char in word:
            vocabulary.setdefault(char, len(vocabulary))
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    codes = ["eng_Latn", *PAIRS]
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=codes, model_max_length=32)
    torch.manual_seed(0)
    sizes = {"d_model": 32, "max_position_embeddings": 32, "dropout": 0.0}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_layers": 1, f"{side}_ffn_dim": 64, f"{side}_attention_heads": 2, f"{side}_layerdrop": 0.0}
    model = M2M100ForConditionalGeneration(
        M2M100Config(vocab_size=len(tokenizer), decoder_start_token_id=2, eos_token_id=2, pad_token_id=1, **sizes)
    )
    inputs = tokenizer([source for _, source, _ in pairs], return_tensors="pt", padding=True)
    labels = []
    for lang, _, target in pairs:
        tokenizer.src_lang = lang
        labels.append(torch.tensor(tokenizer(target)["input_ids"]))
    padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    optimizer, threads = torch.optim.AdamW(model.parameters(), lr=1e-2), torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for a busy core cost ten times the work itself
    for _ in range(60):
        model(**inputs, labels=padded).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    tokenizer.src_lang = "eng_Latn"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("target", list(PAIRS))
def test_a_model_of_several_languages(nllb: str, tmp_path: Path, target: str) -> None:
    known = PAIRS[target]
    code = "```\nNot well.\n```"
    text = f"- Not well.\n- I lost my job.  Not well.\n{code}"
    file, out = tmp_path / "chats.jsonl", tmp_path / "out.jsonl"
    file.write_text(
        json.dumps({"messages": said("I lost my job.", text)}) + "\n" + json.dumps({"messages": said("Not well.", "7")})
    )
    options = ["--source-code", "eng_Latn", "--target-code", target, "--to", "ar" if target == "arb_Arab" else "fr"]
    assert main([str(file), str(out), "--model", nllb, *options, "--batch-size", "2", "--device", "cpu"]) == 0
    job, ill = known["I lost my job."], known["Not well."]
    assert [record["messages"] for record in lines(out)] == [
        said(job, f"- {ill}\n- {job}  {ill}\n{code}"),
        said(ill, "7"),
    ]


def test_a_long_sentence_is_cut_to_the_length_of_the_model(nllb: str) -> None:
    model = Seq2Seq(nllb, "eng_Latn", "arb_Arab", "cpu", 4)
    assert model.max_tokens == 32
    text = "I lost my job, " * 20 + "I lost my job."
    assert "".join(piece for piece, _ in model.split(text)) == text
    cut = [piece for piece, ours in model.split(text) if ours]
    assert len(cut) == 4  # 84 tokens and two more for each piece
    assert all(piece.endswith(("job,", "job.")) for piece in cut)
    sentences = list(PAIRS["arb_Arab"]) * 9  # more than a window of 8 batches, and sorted by length within it
    assert [t.text for t in model.stream(sentences)] == [PAIRS["arb_Arab"][sentence] for sentence in sentences]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "--target-code: found nothing, allowed: arb_Arab, eng_Latn, fra_Latn"),
        (
            ["--target-code", "arb_Latn"],
            "--target-code: found arb_Latn, allowed: arb_Arab, eng_Latn, fra_Latn; did you mean",
        ),
        (["--source-code", "en", "--target-code", "arb_Arab"], "--source-code: found en, allowed: arb_Arab, eng_Latn"),
        (
            ["--target-code", "arb_Arab", "--device", "coda"],
            "--device: found 'coda', expected cpu, cuda, mps: Expected",
        ),
    ],
)
def test_codes_and_devices_that_a_model_does_not_know(
    nllb: str, chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], expected: str
) -> None:
    assert main([str(chats), str(tmp_path / "ar.jsonl"), "--model", nllb, *options]) == 2
    assert expected in capsys.readouterr().err
    assert list(tmp_path.glob("ar.*")) == []


def test_a_batch_too_large_for_the_memory(
    nllb: str, chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import M2M100ForConditionalGeneration

    def generate(self: Any, **inputs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(M2M100ForConditionalGeneration, "generate", generate)
    assert main([str(chats), str(tmp_path / "ar.jsonl"), "--model", nllb, "--target-code", "arb_Arab"]) == 2
    expected = "--batch-size: found 16, expected less: CUDA out of memory.; 0 of 4 chats are done and kept"
    assert expected in capsys.readouterr().err


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], str]:
    """A tiny T5 without any training; it may or may not say that its text ends."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    known = [
        "<pad>",
        "</s>",
        "<unk>",
        ">>ara<<",
        ">>fra<<",
        *dict.fromkeys(" ".join([*ARABIC, *ARABIC.values()]).split()),
    ]
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **special)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}

    def save(ends: bool) -> str:
        folder = str(tmp_path_factory.mktemp("t5"))
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(T5Config(vocab_size=len(known), decoder_start_token_id=0, **sizes))
        model.generation_config.suppress_tokens = None if ends else [1]
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return save


@pytest.mark.parametrize("ends", [True, False])
def test_rubbish_is_dropped(
    untrained: Callable[[bool], str], chats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], ends: bool
) -> None:
    out = tmp_path / "ar.jsonl"
    assert main([str(chats), str(out), "--model", untrained(ends), "--target-code", "ara"]) == 0
    dropped = lines(tmp_path / "ar.dropped.jsonl")
    assert not out.exists()
    assert [record["id"] for record in dropped] == ["job", "code", "copied", "thanks"]
    if not ends:
        # ">>ara<<", the words and the end of each sentence; the first batch has all ten sentences
        longest = max(len(text.split()) for text in list(ARABIC)[1:]) + 2
        assert {r["detail"] for r in dropped} == {f"found no end after {2 * longest + 32} tokens"}
        assert capsys.readouterr().out.endswith(
            "4 (100.0%) dropped, see {}\n  cut off: 4 (100.0%)\n".format(tmp_path / "ar.dropped.jsonl")
        )
    for record in dropped:
        problem = find_problem(record["source"], record["translation"], Limits())
        assert record["reason"] in ("cut off", "empty") or (problem and record["reason"] == problem.reason)
