"""The tasks inside lm-eval, with scripted models."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.tasks import TaskManager
from models import ScriptedModel, always_a, chat_template, oracle

from eicap_tasks import context, items, prompts
from eicap_tasks.documents import documents
from eicap_tasks.errors import EicapError
from eicap_tasks.runner import TASKS
from eicap_tasks.vocabulary import LANGUAGES, LAYERS

TOY = Path(__file__).parent / "items" / "toy.jsonl"
LEAVES = sorted(f"eicap_{layer}_{lang}" for layer in LAYERS for lang in LANGUAGES)
FORMATS = ["circular", "gen", "cf", "chain"]


def manager(data: Path | None = None, **options: Any) -> TaskManager:
    own: dict[str, Any] = {**options, **({"data": str(data)} if data else {})}
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": own} if own else {})


def evaluate(model: ScriptedModel, tasks: list[str], data: Path | None = None, **kwargs: Any) -> dict[str, Any]:
    options = kwargs.pop("options", {})
    out: dict[str, Any] = lm_eval.simple_evaluate(
        model=model, tasks=tasks, task_manager=manager(data, **options), bootstrap_iters=0, **kwargs
    )
    return out


def test_the_exact_set_of_names() -> None:
    """lm-eval passes over a YAML with an error in silence, so every name is checked."""
    index = manager()
    variants = ["", *(f"_{name}" for name in FORMATS)]
    assert index.all_subtasks == sorted(f"{leaf}{variant}" for leaf in LEAVES for variant in variants)
    assert index.all_groups == sorted(f"eicap{variant}{part}" for variant in variants for part in ("", "_en", "_ar"))
    assert index.all_tags == sorted(f"eicap_{layer}{variant}" for layer in LAYERS for variant in variants)


@pytest.mark.parametrize("name", LEAVES)
def test_each_yaml_is_short_and_complete(name: str) -> None:
    _, layer, lang = name.split("_")
    text = (TASKS / f"{layer}_{lang}.yaml").read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    assert len(text.splitlines()) <= 12
    assert raw["task"] == name
    assert raw["tag"] == f"eicap_{layer}"
    assert raw["dataset_kwargs"] == {"layer": layer, "lang": lang}
    assert raw["metadata"]["version"] == "5-0"
    assert raw["description"] == prompts.instruction(lang, layer)


def test_an_oracle_is_right_in_everything_and_always_a_as_often_as_a_is() -> None:
    perfect = evaluate(ScriptedModel(oracle), ["eicap"])["results"]
    lazy = evaluate(ScriptedModel(always_a), ["eicap"])["results"]
    for name in LEAVES:
        _, layer, lang = name.split("_")
        docs = documents(items.load(items.shipped("test", lang)), lang, layer)
        share_of_a = sum(doc["gold"] == 0 for doc in docs) / len(docs)
        assert perfect[name]["acc,none"] == 1.0
        assert perfect[name]["brier_score,none"] == pytest.approx(0.0, abs=1e-12)
        assert lazy[name]["acc,none"] == pytest.approx(share_of_a)
        assert lazy[name]["brier_score,none"] == pytest.approx(2 * (1 - share_of_a))
        assert perfect[name]["sample_len"] == len(docs)
    for group in ("eicap", "eicap_en", "eicap_ar"):
        leaves = [name for name in LEAVES if group == "eicap" or name.endswith(group[-3:])]
        assert perfect[group]["acc,none"] == 1.0
        mean = sum(lazy[name]["acc,none"] for name in leaves) / len(leaves)
        assert lazy[group]["acc,none"] == pytest.approx(mean)


def test_standard_errors_are_those_of_a_mean() -> None:
    out = lm_eval.simple_evaluate(
        model=ScriptedModel(always_a), tasks=["eicap_cause_en"], task_manager=manager(), bootstrap_iters=10
    )
    result = out["results"]["eicap_cause_en"]
    n, p = result["sample_len"], result["acc,none"]
    assert result["acc_stderr,none"] == pytest.approx(math.sqrt(p * (1 - p) / (n - 1)))
    assert result["brier_score_stderr,none"] == pytest.approx(2 * math.sqrt(p * (1 - p) / (n - 1)))


def test_the_macro_average_gives_every_leaf_the_same_weight(tmp_path: Path) -> None:
    lines = TOY.read_text(encoding="utf-8").splitlines()
    peers = json.loads(lines[1])
    peers["probes"] = peers["probes"][:1]  # two tracking probes, one of each other layer
    (tmp_path / "x.jsonl").write_text("\n".join([lines[0], json.dumps(peers)]), encoding="utf-8")

    def right_in_tracking(doc: dict[str, Any], label: str) -> float:
        return oracle(doc, label) if doc["layer"] == "tracking" else -oracle(doc, label)

    results = evaluate(ScriptedModel(right_in_tracking), ["eicap_en"], tmp_path)["results"]
    assert [results[f"eicap_{layer}_en"]["sample_len"] for layer in LAYERS] == [2, 1, 1, 1]
    assert results["eicap_en"]["acc,none"] == pytest.approx((1 + 0 + 0 + 0) / 4)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("shots", [0, 2])
def test_the_model_is_shown_what_context_assembles(chat: bool, shots: int) -> None:
    model = ScriptedModel(oracle)
    out = evaluate(
        model,
        ["eicap_response_ar"],
        TOY,
        num_fewshot=shots,
        apply_chat_template=chat,
        fewshot_as_multiturn=True,
        system_instruction="Be brief.",
    )
    docs = documents(items.load(TOY), "ar", "response")
    dev = documents(items.load(items.shipped("dev", "ar")), "ar", "response")[:shots]
    system = "Be brief.\n\n" + prompts.instruction("ar", "response")
    if chat:
        expected = [model.apply_chat_template(context.chat_messages(doc, dev, system=system)) for doc in docs]  # type: ignore[arg-type]
    else:
        expected = [context.text_prompt(doc, dev, system=system) for doc in docs]
    assert model.prompts == [prompt for prompt in expected for _ in range(4)]
    samples = out["samples"]["eicap_response_ar"]
    continuations = [argument[1] for argument in samples[0]["arguments"]]
    assert continuations == (["A", "B", "C", "D"] if chat else [" A", " B", " C", " D"])
    assert out["results"]["eicap_response_ar"]["acc,none"] == 1.0


@pytest.mark.parametrize("template", ["gemma2", "silent"])
def test_the_instruction_reaches_models_whose_template_has_no_system_role(template: str) -> None:
    model = ScriptedModel(oracle, template)
    evaluate(model, ["eicap_tracking_en"], TOY, apply_chat_template=True, system_instruction="Be brief.")
    instruction = prompts.instruction("en", "tracking")
    assert all(f"Be brief.\n\n{instruction}\n\n" in prompt for prompt in model.prompts)
    assert all(prompt.count(instruction) == 1 for prompt in model.prompts)


def test_a_run_can_ask_for_the_instruction_in_the_users_message() -> None:
    """For servers whose chat template refuses a system role: lm-eval cannot try it from afar."""
    model = ScriptedModel(oracle)
    evaluate(model, ["eicap_tracking_en"], TOY, apply_chat_template=True, options={"system": "user"})
    instruction = prompts.instruction("en", "tracking")
    assert all(
        f"<|im_start|>user\n{instruction}\n\n[A conversation begins." in p
        or f"<|im_start|>user\n{instruction}\n\nSetting: " in p
        for p in model.prompts
    )


def test_a_chat_template_is_tried_once_per_task(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def keeps_system(template: context.ChatTemplate) -> bool:
        tried.append(template)
        return True

    monkeypatch.setattr(context, "keeps_system", keeps_system)
    evaluate(ScriptedModel(oracle), ["eicap_en", "eicap_circular_en"], TOY, apply_chat_template=True)
    assert len(tried) == 8


def test_fewshot_as_multiturn_false_gives_one_user_message() -> None:
    model = ScriptedModel(oracle)
    evaluate(model, ["eicap_tracking_en"], TOY, num_fewshot=2, apply_chat_template=True, fewshot_as_multiturn=False)
    assert all(prompt.count("<|im_start|>user") == 1 for prompt in model.prompts)
    assert all(prompt.count("<|im_start|>assistant") == 1 for prompt in model.prompts)
    assert all(prompt.count("\nConversation:\n") == 3 for prompt in model.prompts)


def test_the_option_context_asks_for_the_transcript() -> None:
    model = ScriptedModel(oracle)
    evaluate(model, ["eicap_cause_en"], TOY, apply_chat_template=True, options={"context": "transcript"})
    assert all(prompt.count("<|im_start|>user") == 1 for prompt in model.prompts)


def test_examples_are_the_same_for_every_seed_and_never_the_dialogue_asked() -> None:
    prompts_by_seed = []
    for seed in (1, 2):
        model = ScriptedModel(oracle)
        evaluate(model, ["eicap_cause_en"], TOY, num_fewshot=4, fewshot_random_seed=seed)
        prompts_by_seed.append(model.prompts)
    assert prompts_by_seed[0] == prompts_by_seed[1]
    dev = items.shipped("dev", "en")
    own = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"data": str(dev)}})
    assert len(own.load(["eicap_cause_en"])["tasks"]["eicap_cause_en"].dataset["dev"]) == 0


def test_more_examples_than_there_are() -> None:
    with pytest.raises(EicapError) as caught:
        evaluate(ScriptedModel(oracle), ["eicap_cause_en"], TOY, num_fewshot=99)
    count = len(documents(items.load(items.shipped("dev", "en")), "en", "cause"))
    assert str(caught.value) == (
        f"--num_fewshot: found 99, allowed for eicap_cause_en: 0 to {count}, the number of probes in the dev split"
    )


def test_a_gen_prefix_is_put_into_the_models_mouth() -> None:
    task = manager(TOY).load(["eicap_cause_en"])["tasks"]["eicap_cause_en"]
    task.set_config("gen_prefix", "The answer is")
    model = ScriptedModel(oracle)
    task.set_config("num_fewshot", 0)
    task.build_all_requests(
        apply_chat_template=True, fewshot_as_multiturn=True, chat_template=model.apply_chat_template
    )
    prompt, continuation = task.instances[0].args
    assert prompt.endswith("<|im_start|>assistant\nThe answer is")
    assert continuation == " A"
    task.build_all_requests()
    assert task.instances[0].args[0].endswith("\nAnswer: The answer is")


def test_predict_only() -> None:
    out = evaluate(ScriptedModel(oracle), ["eicap_cause_en"], TOY, predict_only=True)
    assert out["results"]["eicap_cause_en"]["bypass,none"] == 999


def test_items_without_a_probe_of_the_task(tmp_path: Path) -> None:
    english = tmp_path / "en.jsonl"
    english.write_text(TOY.read_text(encoding="utf-8").splitlines()[0], encoding="utf-8")
    with pytest.raises(EicapError) as caught:
        manager(english).load(["eicap_ar"])
    assert str(caught.value) == (
        f"{english}: found no probe of the layer 'tracking' in Arabic, which the task eicap_tracking_ar asks; "
        "expected one or more. Leave the task out, or add items."
    )


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (
            {"dta": "x"},
            "metadata eicap.dta: found an unknown option, allowed: data (JSONL file or folder asked instead of "
            "our items), context (in chat mode: the dialogue's turns as messages, or a transcript in one), "
            "system (where the instruction stands: where the chat template takes it, or with the user), "
            "labels (of the options: latin A B C D, arabic أ ب ج د), show (all of an item, its last_turn and "
            "question only, or the choices only); did you mean 'data'?",
        ),
        (
            {"context": "chat"},
            "metadata eicap.context: found 'chat', allowed: input should be 'turns' or 'transcript'",
        ),
        ({"system": "no"}, "metadata eicap.system: found 'no', allowed: input should be 'auto' or 'user'"),
        ({"labels": "greek"}, "metadata eicap.labels: found 'greek', allowed: 'latin' or 'arabic'"),
        (
            {"show": "x"},
            "metadata eicap.show: found 'x', allowed: input should be 'dialogue', 'last_turn' or 'choices'",
        ),
        ({"data": 3}, None),
        ("x", None),
    ],
)
def test_options_that_cannot_be(own: Any, expected: str | None) -> None:
    with pytest.raises(EicapError) as caught:
        TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": own}).load(["eicap_en"])
    assert str(caught.value) == expected or (expected is None and "metadata eicap" in str(caught.value))


def test_own_items_are_asked_in_place_of_ours_and_the_result_says_so(caplog: pytest.LogCaptureFixture) -> None:
    out = evaluate(ScriptedModel(oracle), ["eicap_appraisal_en"], TOY)
    digest = items.digest(items.load(TOY))
    assert f"eicap_appraisal_en asks own items: {TOY}, sha256 {digest[:16]}" in caplog.messages
    assert out["configs"]["eicap_appraisal_en"]["metadata"]["items_sha256"] == digest
    assert [sample["doc"]["id"] for sample in out["samples"]["eicap_appraisal_en"]] == [
        "toy-chat-a",
        "toy-peers-a",
    ]


def test_cached_requests_are_never_those_of_other_samples_or_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lm-eval 0.4.13 alone scores document 3 on the cached prompt of document 0."""
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path / "cache"))
    asked = []
    for samples, data in ([0], None), ([3], None), ([0], None), ([0], TOY), ([1], TOY):
        out = evaluate(
            ScriptedModel(oracle),
            ["eicap_tracking_en"],
            data,
            samples={"eicap_tracking_en": samples},
            cache_requests=True,
        )
        (sample,) = out["samples"]["eicap_tracking_en"]
        prompt = sample["arguments"][0][0]
        assert sample["doc"]["question"] in prompt
        assert sample["doc"]["turns"][-1]["text"] in prompt
        assert out["results"]["eicap_tracking_en"]["acc,none"] == 1.0
        asked.append(sample["doc"]["id"])
    assert len(set(asked)) == 4
    assert asked[0] == asked[2]


def test_cached_requests_are_never_those_of_other_options_templates_or_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each way to ask has a file of its own in the cache; the second time it is served, whatever the seed."""
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path / "cache"))
    chat: dict[str, Any] = {"apply_chat_template": True, "fewshot_as_multiturn": True}
    ways: list[dict[str, Any]] = [
        {},
        {"options": {"labels": "arabic"}},
        {"options": {"show": "last_turn"}},
        {"options": {"show": "choices"}},
        {"num_fewshot": 1},
        {"num_fewshot": 2},
        {"system_instruction": "Be brief."},
        chat,
        {**chat, "template": "llama3"},
        {**chat, "options": {"context": "transcript"}},
        {**chat, "options": {"system": "user"}},
        {**chat, "num_fewshot": 2},
        {**chat, "num_fewshot": 2, "fewshot_as_multiturn": False},
    ]

    def asked(way: dict[str, Any], cached: bool, seed: int = 1234) -> list[str]:
        given = {key: value for key, value in way.items() if key not in ("options", "num_fewshot", "template")}
        if way.get("apply_chat_template"):
            given["chat_template"] = chat_template(way.get("template", "chatml"))
        task = manager(TOY, **way.get("options", {})).load(["eicap_tracking_en"])["tasks"]["eicap_tracking_en"]
        task.set_config("num_fewshot", way.get("num_fewshot", 0))
        task.set_fewshot_seed(seed)
        task.build_all_requests(cache_requests=cached, **given)
        return [instance.args[0] + instance.args[1] for instance in task.instances]

    fresh = [asked(way, cached=False) for way in ways]
    assert len({prompts[0] for prompts in fresh}) == len(ways)
    for count, (way, expected) in enumerate(zip(ways, fresh, strict=True), 1):
        for seed in (1234, 99):  # examples are the first ones, whatever the seed
            assert asked(way, cached=True, seed=seed) == expected
            assert len(list((tmp_path / "cache").iterdir())) == count
    assert [asked(way, cached=True) for way in ways] == fresh


def test_cached_requests_have_all_that_the_metrics_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--predict_only` a cloze task asks less, and that must not be served to a run that scores."""
    from lm_eval.caching import cache

    monkeypatch.setattr(cache, "PATH", str(tmp_path / "cache"))
    for predict_only in (True, False):
        out = evaluate(
            ScriptedModel(oracle), ["eicap_cause_en_cf"], TOY, cache_requests=True, predict_only=predict_only
        )
    assert out["results"]["eicap_cause_en_cf"]["acc_mutual_info,none"] in (0.0, 0.5, 1.0)


def test_every_document_is_asked_once() -> None:
    model = ScriptedModel(oracle)
    evaluate(model, ["eicap_tracking_en"], TOY)
    assert set(Counter(model.prompts).values()) == {4}
