"""Reading which option a model chose from the text it generated.

`read_answer` is a pure function in small steps: fold spellings, drop the thinking, cut what the model
invents after its answer, then go through the sentences for a statement of the answer, the most explicit
kind first. Where a text could be read in two ways it counts as no answer: an answer that was missed
shows in the parse rate, one that was made up would show nowhere. The words of a language stand in
`reading_words.json`, of all languages together: a model may answer in another one than it was asked in.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from eicap_tasks.documents import LABELS

_SPELLINGS = str.maketrans("‘’“”„«»‹›،؛؟ىةکی→⇒✔✅☑", '\'\'""""""",;?يهكي::✓✓✓', "ـ")
_THOUGHT = "think|thinking|thought|reasoning|reflection|analysis|scratchpad"
# The last of each: gpt-oss's channels as lm-eval's hf gives them, without special tokens.
_OPENED = re.compile(
    rf"<(?:seed:)?(?:{_THOUGHT})>|\[THINK\]|<\|(?:START_THINKING|begin_of_thought)\|>"
    r"|<\|channel\|>\s?(?:analysis|commentary)|^(?-i:analysis)(?=\w)",
    re.I,
)
_CLOSED = re.compile(
    rf"</(?:seed:)?(?:{_THOUGHT})>|\[/THINK\]|<\|(?:END_THINKING|end_of_thought)\|>"
    r"|<\|channel\|>\s?final\s?(?:<\|message\|>)?|assistantfinal",
    re.I,
)
_LEAD = re.compile(r"(?:\s|\[/INST\]|<\|[^<>|\n]{1,40}\|>|<s>|<bos>|<start_of_turn>|(?:assistant|model)\n)+", re.I)
_END = re.compile(r"<\|[^<>|\n]{1,40}\|>|</s>|<eos>|<end_of_turn>|\[/?INST\]")
_CONTRADICTION = -1  # a label with another option's text
_LONGEST = 8_000  # characters after the thinking; what goes on longer repeats itself
_NEAR = 500  # characters after "the answer is" that can hold an option's text
_TAG = 60  # characters that hold every tag
_MARKUP = re.compile(r"[*_`$#>✓]|\\[\[\]()]")


def fold(text: str) -> str:
    """Unify letters, digits, quotation marks and white space; drop marks, invisible characters and emoji.

    Full-width and circled letters become plain ones, Arabic-Indic digits Latin ones, and Arabic letters
    lose hamza, tatweel and vowel signs.
    """
    folded = []
    for char in unicodedata.normalize("NFKD", text.translate(_SPELLINGS)).translate(_SPELLINGS):
        category = unicodedata.category(char)
        if category == "Nd":
            folded.append(str(unicodedata.decimal(char)))
        elif category not in ("Mn", "Me", "Cf"):
            folded.append(char if char == "✓" else {"Pd": "-", "So": " "}.get(category, char))
    return "\n".join(line for line in (" ".join(line.split()) for line in "".join(folded).splitlines()) if line)


def _plain(text: str) -> str:
    """Keep the words only, in lower case."""
    return " ".join(re.findall(r"[^\W_]+", fold(text).lower().replace("'", "")))


@lru_cache(maxsize=1)
def _words() -> dict[str, list[str]]:
    raw = json.loads((Path(__file__).parent / "reading_words.json").read_text(encoding="utf-8"))
    lists: dict[str, list[str]] = {}
    for language in raw.values():
        for index, words in enumerate(language.pop("positions")):
            lists.setdefault(f"position {index}", []).extend(fold(word).lower() for word in words)
        for name, words in language.items():
            lists.setdefault(name, []).extend(fold(word).lower() for word in words)
    return lists


def _any(words: Iterable[str]) -> str:
    return "(?:" + "|".join(map(re.escape, sorted(set(words), key=lambda word: (-len(word), word)))) + ")"


def _word(name: str) -> str:
    return rf"(?<![\w'])(?:{_any(_words()[name])})(?![\w'])"


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.I)


def opens_thinking(prompt: str) -> bool:
    """Tell whether a prompt ends with a tag that opens a model's thinking."""
    end = prompt.rstrip()[-_TAG:]
    return any(tag.end() == len(end) for tag in _OPENED.finditer(end))


def after_thinking(text: str, begun: bool = False) -> str:
    """Return what follows a model's thinking: nothing where the thinking does not end.

    Args:
        text: The text.
        begun: Whether the prompt ended with the tag that opens the thinking, so that the text has none.
    """
    if closed := list(_CLOSED.finditer(text)):
        return text[closed[-1].end() :]
    opened = _OPENED.search(text)
    return "" if begun else text[: opened.start()] if opened else text


def _own_turn(text: str) -> str:
    """Cut a text where the model begins to invent another turn or another question."""
    lead = _LEAD.match(text)
    text = _END.split(text[lead.end() if lead else 0 :], maxsplit=1)[0]
    heading = rf"\n[#*\[\-> ]{{0,6}}{_any(_words()['next'])} ?\d{{0,4}}[*\] ]{{0,3}}(?::|\n)"
    return re.split(rf"{heading}|\n\W{{0,6}}{_any(_words()['headings'])}", text, maxsplit=1, flags=re.I)[0]


def _structured(text: str) -> str | None:
    """Return the content of the last JSON field, tag or box that holds an answer."""
    key = _any(_words()["answer_keys"])
    pattern = (
        rf"[\"']{key}[\"'] ?: ?(?P<json>\"(?:[^\"\\]|\\.){{0,400}}\"|\[[^\]]{{0,200}}\]|[^,}}\n]{{1,60}})"
        rf"|<{key}>(?P<tag>[^<]{{0,400}})|\\boxed ?\{{(?P<box>(?:[^{{}}]|\{{[^{{}}]{{0,200}}\}}){{0,400}})\}}"
    )
    found = list(re.finditer(pattern, text, re.I))
    return next((part for part in found[-1].groups() if part is not None), None) if found else None


class _Reader:
    """The options of one document, and what finds them in a folded text."""

    def __init__(self, options: Sequence[str], labels: Sequence[str]) -> None:
        self.texts = [_plain(option) for option in options]
        names = {word: index for index in range(len(options)) for word in _words()[f"position {index}"]}
        self.position = names | {fold(label).lower(): index for index, label in enumerate(labels)}
        short = _any(name for name in self.position if len(name) == 1)
        long = _any(name for name in self.position if len(name) > 1)
        self.short = _pattern(rf"(?<!\w){short}(?!\w)")
        option, or_, is_, not_ = _word("option"), _word("or"), _word("is"), _word("not")
        words = r"(?:[\s\"(,]+[\w']+)"
        # "(B)", "option two", "the second option", "B"; in a word, a measure or a number there is no label
        self.label = _pattern(
            rf"[(\[] ?(?P<bracketed>{short})[.)]? ?[)\]]",
            rf"{option} (?P<named>{long})(?!\w)",
            rf"(?<!\w)(?P<ordinal>{long}) {option}",
            rf"(?P<option>{option}[ :]{{1,2}})?(?<![\w'°])(?P<bare>{short})(?![\w'%]|[.,:]\d|-\w)",
        )
        self.emphasized = _pattern(rf"[\"*`$_\[]{{1,3}} ?({short})[.)]? ?[\"*`$_\]]{{1,3}}")
        # "the answer is", "Best:", "I choose"; or "answer" right before a label
        said = rf"{words}{{0,4}}? ?(?:[:=]| - |{is_})"
        self.chooses = _pattern(_word("chooses"))
        self.states = _pattern(
            rf"{_word('announces')}(?:{said}|(?= ?\(?{short}(?!\w)))", rf"{_word('candidates')}{said}", _word("chooses")
        )
        self.wrong_ones = _pattern(rf"{_word('announces')} {_word('wrong')}|.*{_word('wrong')} $")
        self.concludes = _pattern(_word("concludes"))
        self.corrects = _pattern(rf"(?:^|[.!?,\n-] ?){_any(_words()['corrects'])}")
        self.hedged = _pattern(_word("hedges"))
        # before a label, or after it
        self.denied = _pattern(rf"{not_}{words}{{0,5}}[\s\"(]*$")
        wrong = rf"(?:{_word('wrong')}|{not_}(?! ?\(?{short}(?!\w)))"
        self.rejected = _pattern(rf"\"?,?(?: {is_}| \w+ly| the| too){{0,3}} {wrong}")
        # "A: Incorrect.", "B - not the best", "C. No"; an option of its own may begin so, or an explanation
        bad, no = rf"(?:{_word('wrong')}|{not_}(?: \w+){{0,2}} {_word('right')})", rf"(?:{_word('no')}|{not_})"
        verdict = rf"{bad} {_word('goes_on')}|(?:{bad}(?: \w+)?|{no})(?= ?(?:[^\w\s:]|$))"
        self.judged = _pattern(rf"\"? ?[):.-]{{1,2}} (?:{verdict})")
        self.openings = {text.split()[0] for text in self.texts if text}
        self.right = _pattern(rf"\"?(?: [\w']+){{0,4}}? {_word('right')}")
        self.undecided = _pattern(rf" ?(?:\| ?)?{_word('alternatives')}")
        self.no_option = _pattern(rf"{_word('not_an_option')} ?[\"(]*$")
        self.goes_on = _pattern(rf" {_word('goes_on')}")
        self.of_a_label = _pattern(rf" (?:{_word('goes_on')}|{or_}|{is_})")
        self.joined = _pattern(rf"[\s\",/&+|()]*(?:(?:{or_}|و)[\s\"()]*(?:\w+[\s\"(]+)?)?")
        # around it
        self.question = _pattern(rf"{_word('asks')}.*\?")
        self.condition = _pattern(_word("if"))
        self.contrast = _pattern(_word("contrast"))
        self.clause = _pattern(_word("contrast"), r"[,;](?= \w[\w'])")
        self.announced = _pattern(rf":\n(?=\W{{0,3}}(?:{option} )?{short}\W{{0,3}}(?:\n|$))")

    def tidy(self, text: str) -> str:
        """Write emphasized labels as (B), drop markup and bullets, and put what a colon announces beside it."""
        text = re.sub(r"\\(?:text|math)\w{0,9} ?\{([^{}]{0,200})\}", r"\1", text)
        text = _MARKUP.sub(" ", self.emphasized.sub(r" (\1) ", text))
        return self.announced.sub(": ", fold(re.sub(r"(?m)^ ?(?:[-+•] ?){1,3}", "", text)))

    def labels(self, sentence: str) -> list[tuple[int, int, int]]:
        """Find the labels that a sentence does not deny: start, end, position."""
        found = []
        for match in self.label.finditer(sentence):
            name = next(match[kind] for kind in ("bracketed", "named", "ordinal", "bare") if match[kind])
            before, after = sentence[max(0, match.start() - 60) : match.start()], sentence[match.end() :]
            article_or_number = match["bare"] and not match["option"] and (name in "aAا" or name.isdigit())
            if article_or_number and re.match(r" ?\w", after) and not self.of_a_label.match(after):
                continue
            clause = self.clause.split(before)[-1]
            if self.no_option.search(before) or self.denied.search(clause) or self.rejects(after):
                continue
            found.append((match.start(), match.end(), self.position[name.lower()]))
        letters = [label for label in found if not re.search(r"\d", sentence[label[0] : label[1]])]
        return letters or found  # "1. B" is the first line of a list

    def rejects(self, after: str) -> bool:
        """Tell whether the text after a label rejects it: "A is wrong", "A: Incorrect"."""
        judged = self.judged.match(after)
        return bool(self.rejected.match(after) or (judged and _plain(judged[0]).split()[0] not in self.openings))

    def group(self, sentence: str, labels: list[tuple[int, int, int]]) -> set[int]:
        """Return the first label's position, with those of the labels that it is joined to."""
        positions: set[int] = set()
        end = 0
        for start, stop, position in labels:
            if positions and not self.joined.fullmatch(sentence[end:start]):
                break
            positions.add(position)
            end = stop
        return positions

    def stated(self, sentence: str, marker: re.Pattern[str]) -> set[int]:
        """Return what a sentence says right after its last marker; options' own texts count."""
        if self.question.match(sentence):
            return set()
        labels = self.labels(sentence)
        for mark in reversed(list(marker.finditer(sentence))):
            said = sentence[mark.end() : mark.end() + _NEAR]
            if self.hedged.search(self.contrast.split(sentence[: mark.end()])[-1]):
                continue
            if any(map(self.wrong_ones.match, (mark[0], sentence[: mark.start()][-20:]))):  # "Incorrect answers: A, C"
                continue
            if (verbatim := self.verbatim(said)) is not None:
                return {verbatim, *(self.affirmed(said) & {_CONTRADICTION})}
            following = [label for label in labels if label[1] > mark.end()]
            gap = sentence[mark.end() : following[0][0]] if following else ""
            if self.condition.search(self.contrast.split(sentence[: mark.end()] + gap)[-1]):
                return set()
            if following and len(gap.split()) <= 5 and self.asserted(sentence, following):
                return self.group(sentence, following)
            explicit = marker is self.states and (self.chooses.fullmatch(mark[0]) or mark[0].endswith((":", "=")))
            if explicit and len(texts := self.affirmed(said)) == 1:
                return texts
            word = _plain(said)
            if mark[0].endswith((":", "=")) and len(word) > 1 and word in self.position:  # "Answer: two"
                return {self.position[word]}
        return set()

    def asserted(self, sentence: str, labels: list[tuple[int, int, int]]) -> bool:
        """Tell whether a label stands for itself: "B.", "B because", "B is best"; not so in "B goes too far"."""
        end = [stop for start, stop, position in labels if position in self.group(sentence, labels)][-1]
        rest = sentence[end:]
        own = self.verbatim(rest) == labels[0][2]
        return bool(own or re.match(r"\W*$|[\"]? ?[^\w\s]", rest) or self.goes_on.match(rest) or self.right.match(rest))

    def called_right(self, sentence: str) -> set[int]:
        """Return what a sentence calls right: "B is the best answer"."""
        labels = [] if self.question.match(sentence) else self.labels(sentence)
        for index, (start, end, _) in enumerate(labels):
            if not self.right.match(sentence, end):
                continue
            before = self.contrast.split(sentence[:start])[-1]
            rest = self.contrast.split(sentence[end:])[0]
            if not self.hedged.search(before + rest) and not self.condition.search(before):
                return self.group(sentence, labels[index:])
        return set()

    def corrected(self, text: str) -> set[int]:
        """Return the label that follows the last correction: "wait, actually C", "Correction: C"."""
        marks = list(self.corrects.finditer(text))
        if not marks:
            return set()
        said = text[marks[-1].end() :].split("\n")[0][:60]
        labels = self.labels(said)
        return self.group(said, labels) if labels and self.asserted(said, labels) else set()

    def affirmed(self, text: str) -> set[int]:
        """Return the options whose own text a text contains and does not deny; of nested ones the longest."""
        plain = " | ".join(f" {_plain(part)} " for part in re.split(r"[.!?;\n]", text))
        found: set[int] = set()

        def judge(match: re.Match[str]) -> str:
            before, after = plain[max(0, match.start() - 60) : match.start()], plain[match.end() : match.end() + 60]
            if not self.denied.search(before) and not self.rejected.match(after):
                found.update({self.texts.index(option)}, {_CONTRADICTION} if self.undecided.match(after) else ())
            return "|"

        for option in sorted(filter(None, self.texts), key=len, reverse=True):
            spaced = r"(?: +\|)* +".join(map(re.escape, option.split()))
            plain = re.sub(rf"(?<!\S){spaced}(?!\S)", judge, plain)
        return found

    def verbatim(self, text: str) -> int | None:
        """Return the option whose own text a text begins with; of nested ones the longest."""
        plain = f"{_plain(text)} "
        found = [i for i, option in enumerate(self.texts) if option and plain.startswith(f"{option} ")]
        return max(found, key=lambda i: len(self.texts[i]), default=None)

    def starts(self, line: str) -> int | None:
        """Return the label that a line begins with or consists of."""
        match = self.label.match(line)
        found = self.labels(line)
        if not match or not found or found[0][0] != 0:
            return None
        rest = line[match.end() :]
        if rest.startswith(":") and len(found) == 2 and len(_plain(rest)) == 1:  # "A: C", where A is short for answer
            return found[1][2]
        if self.verbatim(rest) not in (None, found[0][2]):
            return _CONTRADICTION
        clear = match["bracketed"] or not rest or re.match(r" ?[).\]:,-]", rest) or self.goes_on.match(rest)
        return found[0][2] if clear and len(self.group(line, found)) == 1 else None

    def evidence(self, text: str) -> Iterator[set[int]]:
        """Yield the options that a text chooses, by each kind of evidence, the most explicit first."""
        rows = [(line, self.starts(line)) for line in self.tidy(text).split("\n")]
        listed = [row for row in rows if self.echoes(*row)]
        if len({start for _, start in listed}) > 1:  # the options, repeated
            rows, listed = [row for row in rows if row not in listed] or [("", None)], []
        sentences = [part for line, _ in rows for part in self.sentences(line)]
        plain = "\n".join(line for line, _ in rows)
        first = rows[0][1] if self.only_labels(rows[0][0]) else None
        yield self.corrected(plain)
        for statement in (self.stated(part, self.states) for part in reversed(sentences)):
            yield statement | ({first} if statement and first is not None else set())
        ticked = [self.tidy(line) for line in text.split("\n") if "✓" in line]
        if len(ticked) == 1:
            start = self.starts(ticked[0])
            yield self.affirmed(ticked[0]) if start is None else {start}
        bare = (self.starts(part) for part in sentences if part[-1:] != ":" and self.only_labels(part))
        yield {start for start in bare if start is not None}
        yield {start for _, start in listed if start is not None}
        begin = self.label.match(rows[0][0])
        if rows[0][1] is not None or (begin and self.judged.match(rows[0][0], begin.end())):  # "A: No. B: Yes."
            starts = (self.starts(part) for part in sentences)
            yield {start for start in starts if start is not None}
        yield from (self.called_right(part) for part in reversed(sentences))
        refused = bool(re.search(_word("refusal"), text, re.I))
        if not refused:
            yield from (self.stated(part, self.concludes) for part in reversed(sentences))
        yield from (whole for line in (rows[0][0], rows[-1][0]) if len(whole := self.affirmed(line)) == 1)
        if not refused and len(sentences) <= 3:
            spans = [(part[start:end], i) for part in sentences for start, end, i in self.labels(part)]
            brief = len(_plain(text).split()) <= 4  # "The second option."
            yield {i for span, i in spans if brief or self.short.search(span)} | self.affirmed(text)

    def echoes(self, line: str, start: int | None) -> bool:
        """Tell whether a line is a label with its own option, or with the beginning of it, cut off."""
        if start is None or start == _CONTRADICTION:
            return False
        words = _plain(line).split()[1:]
        return start in self.affirmed(line) or bool(words and self.texts[start].startswith(" ".join(words)))

    def sentences(self, line: str) -> list[str]:
        """Split a line into sentences; a label that begins it stays with the text that follows."""
        parts = re.split(r"(?<=[^\d][.!?;]) ", line)
        return [" ".join(parts[:2]), *parts[2:]] if self.only_labels(parts[0]) else parts

    def only_labels(self, text: str) -> bool:
        """Tell whether a text has no words but labels."""
        return set(_plain(text).split()) <= set(self.position)

    def read(self, text: str) -> int | None:
        """Read a text without thinking and invented continuation."""
        chosen = next(filter(None, self.evidence(text)), set())
        return max(chosen) if len(chosen) == 1 and _CONTRADICTION not in chosen else None


def read_answer(
    text: str, options: Sequence[str], labels: Sequence[str] = LABELS, *, thinking: bool = False
) -> int | None:
    """Return the position of the option that a model's raw output chooses.

    Args:
        text: The whole generated output, in any language.
        options: The texts of the options, as they were shown.
        labels: The labels under which they were shown.
        thinking: Whether the prompt ended with the tag that opens a model's thinking.

    Returns:
        The position, counted from 0; None where the output does not choose exactly one option.
    """
    text = _own_turn(after_thinking(fold(text), thinking))[-_LONGEST:]
    reader = _Reader(options, labels)
    content = _structured(text)
    return reader.read(text if content is None else content.strip("\"'[]{} "))
