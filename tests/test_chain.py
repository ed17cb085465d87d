"""Chain tasks: earlier probes of a dialogue, with their right answers, stand in the context."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from models import ScriptedModel, oracle

from eicap_tasks import context, items
from eicap_tasks.documents import documents
from eicap_tasks.errors import EicapError
from eicap_tasks.runner import TASKS
from eicap_tasks.views import chains
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

TOY = Path(__file__).parent / "items" / "toy.jsonl"


def evaluate(score: Any, task: str, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    own = {"data": str(TOY), **kwargs.pop("options", {})}
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": own})
    out = lm_eval.simple_evaluate(
        model=ScriptedModel(score), tasks=[task], task_manager=manager, bootstrap_iters=10, **kwargs
    )
    return out["results"], out["samples"]


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_turn_once_and_nothing_later(lang: str) -> None:
    """The links of a chain put together are the dialogue up to the probed turn."""
    test = items.load(items.shipped("test", lang))
    for layer in LAYERS:
        plain = documents(test, lang, layer)
        for doc, chain in zip(plain, chains(test, lang, layer), strict=True):
            links = [*chain["earlier"], chain]
            assert [turn for link in links for turn in link["turns"]] == doc["turns"]
            assert [bool(link["setting"]) for link in links] == [True] + [False] * len(chain["earlier"])
            assert (chain["options"], chain["gold"]) == (doc["options"], doc["gold"])
            assert all(link["dialogue_id"] == doc["dialogue_id"] for link in links)


def test_the_order_is_that_of_turns_then_of_layers() -> None:
    test = items.load(items.shipped("test", "en"))
    order = {doc["id"]: (len(doc["turns"]), i) for i, x in enumerate(LAYERS) for doc in documents(test, "en", x)}
    dialogues = {doc["id"]: doc["dialogue_id"] for x in LAYERS for doc in documents(test, "en", x)}
    for layer in LAYERS:
        for chain, doc in zip(chains(test, "en", layer), documents(test, "en", layer), strict=True):
            found = [order[link["id"]] for link in chain["earlier"]]
            assert found == sorted(found)
            own = [order[i] for i, dialogue in dialogues.items() if dialogue == doc["dialogue_id"]]
            assert found == sorted(place for place in own if place < order[doc["id"]])  # all before it, and no others


def test_the_transcript_of_a_chain(golden: Any) -> None:
    docs = chains(items.load(TOY), "en", "response")
    golden("chain_text_en.txt", "\n=====\n".join(context.text_prompt(doc) for doc in docs) + "\n")


def test_the_messages_of_a_chain(golden: Any) -> None:
    docs = chains(items.load(TOY), "ar", "appraisal")
    messages = [context.chat_messages(doc, system="S") for doc in docs]
    for each in messages:
        roles = [message["role"] for message in each[1:]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    lines = [f"<{m['role']}>\n{m['content']}\n" for each in messages for m in each]
    golden("chain_chat_ar.txt", "".join(lines))


def test_accuracy_at_each_place_of_the_chain() -> None:
    """A model that is right at the second place only: by hand, from the places that the items have."""

    def right_at_the_second(doc: dict[str, Any], label: str) -> float:
        return oracle(doc, label) * (1 if len(doc["earlier"]) == 1 else -1)

    results, samples = evaluate(right_at_the_second, "eicap_chain_en")
    for layer in LAYERS:
        name = f"eicap_{layer}_en_chain"
        places = [len(sample["doc"]["earlier"]) + 1 for sample in samples[name]]
        assert results[name]["acc,none"] == sum(place == 2 for place in places) / len(places)
        for n in range(1, 5):
            value = results[name][f"acc_{n},none"]
            assert value == (float(n == 2) if n in places else pytest.approx(float("nan"), nan_ok=True))
            assert results[name][f"acc_{n}_stderr,none"] == "N/A"


@pytest.mark.parametrize("chat", [False, True])
def test_examples_are_chains_too(chat: bool) -> None:
    results, samples = evaluate(oracle, "eicap_response_en_chain", num_fewshot=1, apply_chat_template=chat)
    assert results["eicap_response_en_chain"]["acc,none"] == 1.0
    shot = chains(items.load(items.shipped("dev", "en")), "en", "response")[0]
    prompt = samples["eicap_response_en_chain"][0]["arguments"][0][0]
    for link in [*shot["earlier"], shot]:
        assert prompt.count(link["question"]) == 1


def test_the_groups() -> None:
    results, _ = evaluate(oracle, "eicap_chain")
    assert all(results[group]["acc,none"] == 1.0 for group in ("eicap_chain", "eicap_chain_en", "eicap_chain_ar"))


def test_a_chain_needs_the_dialogue() -> None:
    with pytest.raises(EicapError) as caught:
        evaluate(oracle, "eicap_cause_en_chain", options={"show": "last_turn"})
    assert str(caught.value) == "metadata eicap.show: found 'last_turn', allowed for eicap_cause_en_chain: 'dialogue'"
