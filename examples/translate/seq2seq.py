"""Translation with a seq2seq model of transformers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from splitting import Piece, split
from translation_checks import Problem
from translator import Translation

from eicap_tasks.errors import EicapError, nearest

CODE = re.compile(r">>(.+)<<|<2(.+)>|__([a-z]{2,3})__|([a-z]{2,3}_[A-Z]\w{1,3})")
"""Language codes in the vocabularies of OPUS-MT, MADLAD, M2M100, and of mBART and NLLB."""

MAX_TOKENS = 512
WINDOW = 8  # batches that are sorted by length together, so that little is padding


class Seq2Seq:
    """An encoder-decoder model of transformers: OPUS-MT (Marian), NLLB, M2M100, mBART, MADLAD and the like.

    Args:
        name: A folder or an id on the hub.
        source_code: The model's code of the source language, for models of several.
        target_code: The model's code of the target language.
        device: Where it runs; a GPU if there is one and this is None.
        batch_size: Sentences at a time.

    Raises:
        EicapError: The model cannot be loaded, or does not know a code.
    """

    def __init__(
        self, name: str, source_code: str | None, target_code: str | None, device: str | None, batch_size: int
    ) -> None:
        import torch  # seconds, and an API needs neither
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name)
            self._model = AutoModelForSeq2SeqLM.from_pretrained(name).eval()
        except (OSError, ValueError, ImportError, KeyError) as error:
            expected = "a seq2seq model of transformers, a folder or an id on the hub"
            raise EicapError(f"--model: found {name!r}, expected {expected}: {_short(error)}") from error
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._model.to(self.device)
        except (RuntimeError, AssertionError) as error:  # torch raises either for a device that is not there
            raise EicapError(f"--device: found {device!r}, expected cpu, cuda, mps: {_short(error)}") from error
        tokens = {m: m.group() for token in self._tokenizer.get_vocab() if (m := CODE.fullmatch(token))}
        codes = {next(filter(None, match.groups())): token for match, token in tokens.items()}
        if source_code:
            self._check_code("--source-code", source_code, codes if hasattr(self._tokenizer, "src_lang") else ())
            self._tokenizer.src_lang = source_code
        # A single code says nothing: models of one language pair have such tokens too.
        if target_code or len(codes) > 1:
            self._check_code("--target-code", target_code, codes)
        token = codes[target_code] if target_code else ""
        is_prefix = token.startswith((">>", "<2"))
        self._prefix = f"{token} " if is_prefix else ""
        self._first = self._tokenizer.convert_tokens_to_ids(token) if token and not is_prefix else None
        positions = getattr(self._model.config, "max_position_embeddings", None) or MAX_TOKENS
        self.max_tokens: int = min(self._tokenizer.model_max_length, positions, MAX_TOKENS)
        self._model.generation_config.max_length = None  # `_batch` has a limit of its own
        self._batch_size = batch_size

    @staticmethod
    def _check_code(option: str, code: str | None, codes: Iterable[str]) -> None:
        if code not in (known := sorted(codes)):
            allowed = ", ".join(known[:20]) + (" …" if len(known) > 20 else "") or "none with this model"
            raise EicapError(f"{option}: found {code or 'nothing'}, allowed: {allowed}{nearest(code or '', known)}")

    def split(self, text: str) -> list[Piece]:
        """Cut a message into sentences that the model can take.

        Args:
            text: The message.
        """
        whole = text.encode(errors="replace").decode()  # tokenizers refuse half of a surrogate pair
        return split(whole, lambda piece: len(self._ids([piece])["input_ids"][0]) <= self.max_tokens)

    def _ids(self, texts: list[str], **options: Any) -> Any:
        return self._tokenizer([self._prefix + text for text in texts], verbose=False, **options)

    def stream(self, texts: Iterable[str]) -> Iterator[Translation]:
        """Translate sentences in batches of about the same length.

        Args:
            texts: The sentences.

        Yields:
            Their translations, in the same order.
        """
        texts = iter(texts)
        while window := list(islice(texts, WINDOW * self._batch_size)):
            order = sorted(range(len(window)), key=lambda place: len(window[place]))
            done: dict[int, Translation] = {}
            for start in range(0, len(order), self._batch_size):
                places = order[start : start + self._batch_size]
                done.update(zip(places, self._batch([window[place] for place in places]), strict=True))
            yield from (done[place] for place in range(len(window)))

    def _batch(self, texts: list[str]) -> Iterator[Translation]:
        import torch

        inputs = self._ids(texts, return_tensors="pt", padding=True).to(self.device)
        length = min(2 * inputs["input_ids"].shape[1] + 32, self.max_tokens)
        first = {} if self._first is None else {"forced_bos_token_id": self._first}
        try:
            outputs = self._model.generate(**inputs, max_new_tokens=length, **first)
        except torch.OutOfMemoryError as error:
            raise EicapError(f"--batch-size: found {self._batch_size}, expected less: {_short(error)}") from error
        for output in outputs.tolist():
            text = self._tokenizer.decode(output, skip_special_tokens=True).strip()
            # The token before the first can be an end, and Marian forces one at the limit.
            is_whole = self._tokenizer.eos_token_id in output[1:length]
            yield Translation(text, None if is_whole else Problem("cut off", f"found no end after {length} tokens"))


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"
