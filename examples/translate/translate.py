"""Make a version of chat data in another language: `python translate.py CHATS OUT.jsonl --to ar --model NAME`.

The README beside this file says what is checked, what is dropped and how to go on after an interruption.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

sys.path.insert(0, str(Path(__file__).parent.parent / "finetune"))

from chat_api import Api
from chats import Chat, load
from records import Records
from seq2seq import Seq2Seq
from splitting import Piece
from translation_checks import LANGUAGES, Limits, Problem, find_problem
from translator import Translation, Translator

from eicap_tasks.errors import EXIT_CODE, EicapError


def translations(chats: Iterable[Chat], translator: Translator) -> Iterator[tuple[Chat, list[Translation]]]:
    """Translate the messages of chats, whose pieces go to the model in one stream.

    Args:
        chats: The chats.
        translator: The model.

    Yields:
        Each chat with its messages, in order.
    """
    split, ahead = tee((chat, [translator.split(m["content"]) for m in chat.messages]) for chat in chats)
    answers = translator.stream(text for _, messages in ahead for pieces in messages for text, ours in pieces if ours)
    for chat, messages in split:
        yield chat, [_joined(pieces, answers) for pieces in messages]


def _joined(pieces: list[Piece], answers: Iterator[Translation]) -> Translation:
    parts = [next(answers) if ours else Translation(text) for text, ours in pieces]
    problem = next((part.problem for part in parts if part.problem), None)
    lost = next((text for (text, _), part in zip(pieces, parts, strict=True) if not part.text), None)
    if lost is not None and problem is None:
        problem = Problem("empty", f"found nothing for {lost[:60]!r}, allowed: a text")
    return Translation("".join(part.text for part in parts), problem)


def run(arguments: argparse.Namespace) -> Records:
    """Translate what is not yet in the output.

    Args:
        arguments: The command line.

    Returns:
        What was written, in this call and before.

    Raises:
        EicapError: An argument, the chats, the output, the model or its server cannot be used.
    """
    limits = Limits(arguments.to, arguments.min_script, tuple(arguments.length_ratio))
    seq2seq_only = ("source_code", "target_code", "device")
    for name in seq2seq_only if arguments.api else ("body",):
        if getattr(arguments, name) is not None:
            raise EicapError(f"--{name.replace('_', '-')}: found it {'with' if arguments.api else 'without'} --api")
    chats = load(arguments.chats, split=arguments.split, name=arguments.name, limit=arguments.limit)
    names = ("to", "model", "source_code", "target_code", "body", "min_script", "length_ratio")
    settings = {"kind": "api" if arguments.api else "seq2seq", **{name: getattr(arguments, name) for name in names}}
    records = Records(arguments.out, chats, settings)
    left = [chat for chat in chats if chat.id not in records.done]
    if not left:
        return records
    translator = _translator(arguments)
    records.begin()
    bar = tqdm(total=len(chats), initial=len(records.done), unit="chat")
    try:
        for chat, messages in translations(left, translator):
            _write(records, chat, messages, limits)
            bar.update()
    except EicapError as error:
        here = f"{len(records.done)} of {len(chats)} chats are done and kept"
        raise EicapError(f"{error}; {here}: the same command goes on") from error
    finally:
        bar.close()
    return records


def _translator(arguments: argparse.Namespace) -> Translator:
    model, size = arguments.model, arguments.batch_size
    if arguments.api:
        return Api(arguments.api, model, arguments.to, size, arguments.body or {})
    return Seq2Seq(model, arguments.source_code, arguments.target_code, arguments.device, size)


def _write(records: Records, chat: Chat, messages: list[Translation], limits: Limits) -> None:
    for turn, (message, translation) in enumerate(zip(chat.messages, messages, strict=True), 1):
        problem = translation.problem or find_problem(message["content"], translation.text, limits)
        if problem:
            return records.drop(chat, turn, problem, translation.text)
    return records.keep(chat, limits.lang, [translation.text for translation in messages])


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


def _object(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a JSON object")
    return fields


def main(argv: list[str] | None = None) -> int:
    """Read the command line, translate and print what was dropped.

    Args:
        argv: The command line; that of the process if None.

    Returns:
        The exit status: 0, 2 where the user can mend what went wrong, 130 after an interruption.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("chats", metavar="CHATS", help="a JSON, JSONL or Parquet file, or a dataset's id on the hub")
    parser.add_argument("out", metavar="OUT.jsonl", type=Path, help="the translations; a second call goes on with it")
    parser.add_argument("--to", default="ar", help=f"target language: {', '.join(LANGUAGES)}; ar if not given")
    parser.add_argument("--model", required=True, help="a seq2seq model of transformers, or its name at --api")
    parser.add_argument("--batch-size", type=_count, default=16, help="sentences, or requests to an API, at a time")
    parser.add_argument("--split", default="train", help="split of a dataset on the hub")
    parser.add_argument("--name", help="configuration of a dataset on the hub")
    parser.add_argument("--limit", type=_count, help="only so many chats; a later call may take more")
    parser.add_argument("--source-code", help="the model's code of the source language: eng_Latn")
    parser.add_argument("--target-code", help="the model's code of the target language: arb_Arab (NLLB), ara (OPUS-MT)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; a GPU if there is one and this is not given")
    parser.add_argument("--api", metavar="URL", help="an OpenAI-compatible API; the key is read from OPENAI_API_KEY")
    parser.add_argument("--body", metavar="JSON", type=_object, help="more fields of each request; null leaves one out")
    parser.add_argument("--min-script", type=float, default=0.7, help="least share of letters in the target's script")
    parser.add_argument(
        "--length-ratio",
        nargs=2,
        type=float,
        default=[0.4, 2.5],
        metavar=("LOW", "HIGH"),
        help="least and greatest length as a multiple of the source's",
    )
    arguments = parser.parse_args(argv)
    try:
        print(run(arguments).summary())
    except EicapError as error:
        print(error, file=sys.stderr)
        return EXIT_CODE
    except OSError as error:
        print(
            f"{error.filename or arguments.out}: found {error.strerror or error}, expected a file to write",
            file=sys.stderr,
        )
        return EXIT_CODE
    except KeyboardInterrupt:
        print("interrupted; what was done is kept: the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
