"""LoRA fine-tuning on chats: what is read, what is learnt, and that a run can be interrupted and repeated."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import trl
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from datasets import Dataset
from peft import PeftModel
from tiny import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer, get_scheduler

from eicap_tasks import items, sft
from eicap_tasks.context import ContextKind
from eicap_tasks.errors import EicapError

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "finetune"
sys.path.insert(0, str(FOLDER))

import chats  # noqa: E402
import finetune  # noqa: E402
import preflight  # noqa: E402
import settings as settings_module  # noqa: E402

PLAIN = FOLDER / "plain.jinja"
FORMS = sorted(FOLDER.glob("*.yaml"))


def turns(count: int) -> list[str]:
    """Texts of UltraChat's form: a user's, an assistant's, and so on."""
    return [f"{'Why is the sea salty' if i % 2 == 0 else 'Rivers bring the salt'}, {i}." for i in range(count)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve chats of two and four turns in UltraChat's form."""
    file = tmp_path / "chats.jsonl"
    rows = [{"id": f"c{i}", "data": turns(2 + 2 * (i % 2))} for i in range(12)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run_file(tmp_path: Path, tiny: Path, data: Path) -> Path:
    """Settings of a run of six steps."""
    file = tmp_path / "run.yaml"
    raw = {
        "model": {"pretrained": str(tiny), "dtype": "float32", "chat_template": str(PLAIN)},
        "data": {"source": str(data)},
        "lora": {"r": 4, "alpha": 8},
        "training": {
            "epochs": 2, "batch_size": 2, "gradient_accumulation": 2, "max_length": 256, "save_steps": 2,
            "logging_steps": 1, "learning_rate": 0.01, "warmup_steps": 1,
        },
        "output": str(tmp_path / "out"),
    }  # fmt: skip
    file.write_text(yaml.safe_dump(raw))
    return file


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([[5, 6, 7, 8]])).logits
    return found


def test_every_form_of_chats_is_read_alike(tmp_path: Path) -> None:
    messages = [{"role": chats.ROLES[1 + i % 2], "content": text} for i, text in enumerate(turns(4))]
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "x", "data": turns(4)}) + "\n\n")
    (tmp_path / "b.json").write_text(json.dumps([{"id": "x", "messages": messages}]))
    Dataset.from_list([{"id": "x", "messages": messages}]).to_parquet(tmp_path / "c.parquet")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.jsonl").write_text(json.dumps({"id": "x", "messages": messages}) + "\n")
    expected = [chats.Chat("x", messages)]
    for name in ("a.jsonl", "b.json", "c.parquet", "hub"):  # a folder is loaded as a dataset of the hub is
        assert chats.load(str(tmp_path / name)) == expected, name
    assert chats.digest(expected) == chats.digest(chats.load(str(tmp_path / "b.json")))


def test_limit_and_missing_ids(data: Path, tmp_path: Path) -> None:
    assert [chat.id for chat in chats.load(str(data), limit=3)] == ["c0", "c1", "c2"]
    (tmp_path / "n.jsonl").write_text(f"{json.dumps({'data': turns(2)})}\n" * 2)
    assert [chat.id for chat in chats.load(str(tmp_path / "n.jsonl"))] == ["1", "2"]
    row = {"id": None, "prompt_id": "p", "data": turns(2)}  # two chats that begin with one prompt
    (tmp_path / "p.jsonl").write_text(f"{json.dumps(row)}\n" * 2)
    assert [chat.id for chat in chats.load(str(tmp_path / "p.jsonl"))] == ["1", "2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "x: found list, expected an object"),
        ({"text": "hi"}, "x: found the fields text, expected messages (a list of role and content) or data (a list of "
         "texts, the user first)"),
        ({"data": ["a"]}, "x: data: found 1 turns, expected an even number, the assistant's last"),
        ({"data": []}, "x: data: found 0 turns, expected an even number, the assistant's last"),
        ({"data": ["a", " "]}, "x: data[1]: content: found ' ', expected a text"),
        ({"messages": [{"role": "human", "content": "a"}]}, "x: messages[0]: role: found 'human', expected system, "
         "user, assistant"),
        ({"messages": [{"role": r, "content": "a"} for r in ("system", "user", "user")]},
         "x: messages[2]: role: found user, expected assistant (in turn, the user first)"),
    ],
)  # fmt: skip
def test_chats_in_the_wrong_form(row: Any, message: str) -> None:
    with pytest.raises(EicapError, match=f"^{re.escape(message)}$"):
        chats.read(row, "x", "1")


def test_files_in_the_wrong_form(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text(json.dumps({"data": turns(2)}) + '\n{"data": ["a",')
    with pytest.raises(EicapError, match=r"cut\.jsonl:2: found no JSON"):
        chats.load(str(tmp_path / "cut.jsonl"))
    (tmp_path / "twice.jsonl").write_text(f"{json.dumps({'id': 1, 'data': turns(2)})}\n" * 2)
    with pytest.raises(EicapError, match=r"twice\.jsonl:2: id: found '1' again, expected every id once"):
        chats.load(str(tmp_path / "twice.jsonl"))
    for name in ("latin.jsonl", "latin.json"):
        (tmp_path / name).write_bytes(b'{"data": ["caf\xe9", "yes"]}')
        with pytest.raises(EicapError, match=r"latin\.json(l:1)?: found no JSON: 'utf-8' codec can't decode byte 0xe9"):
            chats.load(str(tmp_path / name))
    (tmp_path / "none.parquet").write_text("no")
    with pytest.raises(EicapError, match=r"none\.parquet: found no Parquet table"):
        chats.load(str(tmp_path / "none.parquet"))
    with pytest.raises(EicapError, match="no such file"):
        chats.load(str(tmp_path / "absent.jsonl"))
    with pytest.raises(EicapError, match=r"nobody/nothing: found no such data, expected a file \(\.jsonl"):
        chats.load("nobody/nothing")


def test_settings_say_what_is_wrong(run_file: Path) -> None:
    raw = yaml.safe_load(run_file.read_text())
    raw["training"] |= {"epoch": 2, "learning_rate": -1, "schedule": "cosin"}
    del raw["output"]
    run_file.write_text(yaml.safe_dump(raw))
    with pytest.raises(EicapError) as caught:
        settings_module.load(run_file)
    lines = str(caught.value).splitlines()
    assert [line.removeprefix(f"{run_file}: ") for line in lines] == [
        "training.learning_rate: found -1, expected: input should be greater than or equal to 0",
        "training.schedule: found 'cosin', expected: input should be 'linear', 'cosine', 'cosine_with_restarts', "
        "'polynomial', 'constant', 'constant_with_warmup' or 'inverse_sqrt'",
        "training.epoch: found an unknown key, expected epochs, max_steps, learning_rate, schedule, warmup_steps, "
        "batch_size, gradient_accumulation, max_length, packing, gradient_checkpointing, seed, save_steps, "
        "logging_steps; did you mean 'epochs'?",
        "output: found nothing, expected a value",
    ]
    with pytest.raises(EicapError, match=r"expected KEY=VALUE, such as training\.epochs=2"):
        settings_module.load(run_file, ["output"])
    with pytest.raises(EicapError, match="found no section 'output'"):
        settings_module.load(run_file, ["output=x", "output.y=1"])
    for value in ("@x", "[a"):
        with pytest.raises(EicapError, match=rf"^--set data\.source={re.escape(value)}: found no YAML after '='"):
            settings_module.load(run_file, [f"data.source={value}"])


@pytest.mark.parametrize("name", get_args(settings_module.Schedule))
def test_every_schedule_needs_nothing_more(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(name, optimizer, num_warmup_steps=2, num_training_steps=6)
    assert schedule.get_last_lr() == [1.0 if name == "constant" else 0.0]


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_the_settings_that_ship(file: Path) -> None:
    found = settings_module.load(file)
    assert str(found.output) == f"results/finetune/{file.stem}"
    assert "generation" in found.model.chat_template.read_text() if found.model.chat_template else True
    papers = re.fullmatch(r"qwen2\.5-7b(-instruct)?_ultrachat-(en|ar)", file.stem)
    if papers:
        assert found.model.pretrained == ("Qwen/Qwen2.5-7B-Instruct" if papers[1] else "Qwen/Qwen2.5-7B")
        assert found.data.source == ("HuggingFaceH4/ultrachat_200k" if papers[2] == "en" else "ultrachat-ar.jsonl")
        assert (found.model.dtype, found.training.packing, found.lora.r) == ("bfloat16", True, 16)
        assert found.model.chat_template == (None if papers[1] else FOLDER / "qwen2.5-base.jinja")
    assert len(FORMS) == 8


@pytest.mark.parametrize(("name", "kind", "template"), [
    ("qwen2.5-7b-instruct_ei", "turns", None), ("qwen2.5-7b_ei", "transcript", FOLDER / "qwen2.5-base.jinja"),
])  # fmt: skip
def test_the_settings_for_dialogues_with_probes(
    name: str, kind: ContextKind, template: Path | None, tmp_path: Path
) -> None:
    file = FOLDER / f"{name}.yaml"
    found = settings_module.load(file)
    assert (found.data.source, found.model.chat_template) == ("ei.jsonl", template)
    rows = sft.examples(items.load(items.shipped("dev", "ar")), [], context_kind=kind)
    (tmp_path / "ei.jsonl").write_text(sft.as_jsonl(rows), encoding="utf-8")
    read = chats.load(str(tmp_path / "ei.jsonl"))
    longest = max(sum(len(message["content"]) for message in chat.messages) for chat in read)
    assert f"the longest Arabic one of the dev split has {longest:,} characters" in file.read_text()


def test_the_page_has_every_key_with_its_default() -> None:
    rows = []
    for name, field in settings_module.Settings.model_fields.items():
        keys = getattr(field.annotation, "model_fields", None)
        for key, inner in ((f"{name}.{k}", f) for k, f in keys.items()) if keys else [(name, field)]:
            default = inner.default
            shown = f"`{default}`" if isinstance(default, str) else {None: "none"}.get(default, str(default).lower())
            rows.append(f"| `{key}` | {'' if inner.is_required() else f'{shown} '}|")
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = page.split("| key | default | what it is |\n|---|---|---|\n")[1].split("\n\n")[0].splitlines()
    assert [line[: len(row)] for line, row in zip(table, rows, strict=True)] == rows
    assert len(rows) == 27


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_configurations_of_accelerate(name: str) -> None:
    config = load_config_from_file(str(FOLDER / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type.value == {"ddp": "MULTI_GPU", "fsdp": "FSDP"}[name]
    assert (config.num_processes, config.mixed_precision) == (4, "bf16")


def learnt(tokenizer: Any, template: str, messages: list[dict[str, str]]) -> list[str]:
    """The pieces of text that are learnt."""
    found = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    pieces: list[list[int]] = [[]]
    for token, mask in zip(found["input_ids"], found["assistant_masks"], strict=True):
        if mask:
            pieces[-1].append(token)
        elif pieces[-1]:
            pieces.append([])
    return [tokenizer.decode(piece) for piece in pieces if piece]


TALK = [
    {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why salt?"},
    {"role": "assistant", "content": "Rivers."}, {"role": "user", "content": "مالحة؟"},
    {"role": "assistant", "content": "نعم."},
]  # fmt: skip


def test_the_plain_template(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = PLAIN.read_text()
    template = preflight.training_template(tokenizer, "tiny")
    text = "Be brief.\nUser: Why salt?\nAssistant: Rivers.</s>\nUser: مالحة؟\nAssistant: نعم.</s>\n"
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == f"<s>{text}"
    assert learnt(tokenizer, template, TALK) == [" Rivers.</s>", " نعم.</s>"]
    tokenizer.bos_token = None
    assert tokenizer.apply_chat_template(TALK, tokenize=False) == text


@pytest.mark.model
def test_the_template_of_smollm2(small_model: str) -> None:
    arguments = dict(part.split("=") for part in small_model.split(","))
    tokenizer = AutoTokenizer.from_pretrained(arguments["pretrained"], gguf_file=arguments["gguf_file"])
    with pytest.raises(EicapError, match="found a chat template without marks that trl does not know"):
        preflight.training_template(tokenizer, "SmolLM2")
    for talk in (TALK, TALK[1:]):
        own = tokenizer.apply_chat_template(talk, tokenize=False)
        ours = tokenizer.apply_chat_template(talk, tokenize=False, chat_template=(FOLDER / "smollm2.jinja").read_text())
        assert ours == own
    tokenizer.chat_template = (FOLDER / "smollm2.jinja").read_text()
    template = preflight.training_template(tokenizer, "SmolLM2")
    assert learnt(tokenizer, template, TALK) == ["Rivers.<|im_end|>\n", "نعم.<|im_end|>\n"]


@pytest.mark.parametrize("family", ["qwen2_5", "llama3", "gemma"])
def test_templates_of_the_papers_models_are_known(family: str, tiny: Path) -> None:
    """As trl has them: the text stays the same, the assistant's part is marked, its end included."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    ends = {"qwen2_5": "<|im_end|>", "llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}
    tokenizer.add_special_tokens({"additional_special_tokens": [ends[family]]})
    tokenizer.chat_template = (Path(trl.__file__).parent / "chat_templates" / f"{family}.jinja").read_text()
    template = preflight.training_template(tokenizer, family)
    talk = TALK[1:]
    assert template != tokenizer.chat_template
    text = tokenizer.apply_chat_template(talk, tokenize=False)
    assert tokenizer.apply_chat_template(talk, tokenize=False, chat_template=template) == text
    assert [piece.strip() for piece in learnt(tokenizer, template, talk)] == [
        f"{word}{ends[family]}" for word in ("Rivers.", "نعم.")
    ]


def test_the_template_of_qwens_base_models(tiny: Path) -> None:
    """As trl has that of the instruct models, with the default that stands in the base models' own."""
    instruct, training = (
        (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text()
        for name in ("qwen2_5", "qwen2_5_training")
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (FOLDER / "qwen2.5-base.jinja").read_text()
    template = preflight.training_template(tokenizer, "base")
    assert template == tokenizer.chat_template
    named = "You are Qwen, created by Alibaba Cloud. "
    for talk, count in ((TALK, 0), (TALK[1:], 1), (TALK[1:2], 1)):
        for prompt in (False, True):
            theirs = tokenizer.apply_chat_template(
                talk, tokenize=False, chat_template=instruct, add_generation_prompt=prompt
            )
            assert theirs.count(named) == count
            ours = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=prompt)
            assert ours == theirs.replace(named, "")
    assert learnt(tokenizer, template, TALK) == ["\nRivers.<|im_end|>\n", "\nنعم.<|im_end|>\n"]
    assert learnt(tokenizer, template, TALK) == learnt(tokenizer, training, TALK)
    tokenizer.chat_template = instruct.replace(named, "")
    with pytest.raises(EicapError, match="found a chat template without marks that trl does not know"):
        preflight.training_template(tokenizer, "base")


def test_a_template_that_will_not_do(tiny: Path, run_file: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    with pytest.raises(EicapError, match="tiny: found no chat template in the tokenizer, expected a template with"):
        preflight.training_template(tokenizer, "tiny")
    tokenizer.chat_template = PLAIN.read_text().replace("+ eos_token", "")
    with pytest.raises(EicapError, match="leaves the end of a turn out of the loss"):
        preflight.training_template(tokenizer, "tiny")


def test_parameters_and_memory(run_file: Path) -> None:
    """2 layers of width 32 (4 square matrices, 3 of 32 x 64), 600 tokens tied, norms; LoRA has r (in + out) each."""
    settings = settings_module.load(run_file, ["training.batch_size=1", "training.max_length=100"])
    found = preflight.estimate(settings)
    assert found.parameters == 600 * 32 + 2 * (4 * 32**2 + 3 * 32 * 64 + 2 * 32) + 32
    assert found.trainable == 2 * (4 * 4 * 64 + 3 * 4 * 96)
    dropped = 100 * (6 * 32 + 64) * 8  # seven adapters in a layer, six of them on 32 units: a copy and a mask
    kept, layer, head = 100 * 32 * 4, 100 * 32 * 68 + dropped, 100 * 600 * (4 + 28) + 100 * 32 * 4
    held = 4 * found.parameters + 16 * found.trainable
    assert found.memory == held + 2 * kept + layer + head
    split = preflight.estimate(settings, shards=4)  # the embeddings (tied) and both layers are whole at their time
    whole = 600 * 32 + (found.parameters - 600 * 32)
    assert split.memory == held // 4 + 4 * whole + 2 * kept + layer + head
    assert preflight.check_memory(1).startswith("about 0.0 GiB of ")
    assert re.fullmatch(
        r"about 1048576\.0 GiB, more than the [0-9.]+ GiB free of this machine",
        preflight.check_memory(2**50, strict=False),
    )
    with pytest.raises(
        EicapError, match=r"memory: found [0-9.]+ GiB free of this machine, expected about 1048576.0 GiB"
    ):
        preflight.check_memory(2**50)


def test_the_logits_count_as_one_tile(run_file: Path, tiny: Path, tmp_path: Path) -> None:
    """Beyond 4,096 tokens only what is kept of each token grows, not what the loss takes."""
    found = [
        preflight.estimate(
            settings_module.load(run_file, ["lora.dropout=0", "training.batch_size=1", f"training.max_length={length}"])
        ).memory
        for length in (4095, 4096, 4097)
    ]
    for_each = 2 * 32 * 4 + 32 * 68 + 32 * 4
    assert [found[1] - found[0], found[2] - found[1]] == [for_each + 600 * 32, for_each]


@pytest.mark.parametrize("fsdp", ["true", "false"])
def test_only_fsdp_splits_the_model(fsdp: str, run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards: list[Any] = []
    estimate = preflight.estimate

    def watched(settings: Any, *, shards: int, into: list[int] = shards) -> preflight.Estimate:
        into.append(shards)
        return estimate(settings, shards=shards)

    monkeypatch.setenv("ACCELERATE_USE_FSDP", fsdp)
    monkeypatch.setattr(preflight, "estimate", watched)
    finetune.prepare(settings_module.load(run_file), processes=4)
    assert shards == [4 if fsdp == "true" else 1]


def test_what_is_not_there(run_file: Path, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny / name, tmp_path / "bare")
    with pytest.raises(EicapError, match=r"^model\.pretrained: found no tokenizer of '.*bare': "):
        finetune.prepare(settings_module.load(run_file, [f"model.pretrained={tmp_path / 'bare'}"]))
    with pytest.raises(EicapError, match=r"model\.pretrained: found no model 'nobody/nothing'"):
        preflight.estimate(settings_module.load(run_file, ["model.pretrained=nobody/nothing"]))
    with pytest.raises(EicapError, match=r"lora\.target_modules: found 'nothing'"):
        preflight.estimate(settings_module.load(run_file, ["lora.target_modules=nothing"]))
    with pytest.raises(EicapError, match="leaves no assistant's turn of any chat"):
        finetune.prepare(settings_module.load(run_file, ["training.max_length=3"]))


def test_a_dry_run_says_what_would_happen(
    run_file: Path,
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_module.load(run_file)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = PLAIN.read_text()
    sizes = [preflight.size(chat, tokenizer, tokenizer.chat_template, 60) for chat in chats.load(settings.data.source)]
    short, long = sizes[0], sizes[1]
    assert (short.cut, short.answer_cut, long.tokens, long.answer_cut) == (0, False, 60, True)
    finetune.main([str(run_file), "--dry-run", "--set", "training.max_length=60"])
    shown = capsys.readouterr()
    assert re.search(r"tokens are counted: 100%.* 12/12 ", shown.err)
    lines = shown.out.splitlines()
    assert lines[:-1] == [
        f"model       {tiny}, 39,840 parameters",
        "trainable   4,352 (10.92%)",
        f"data        12 chats, {6 * short.tokens + 6 * 60} tokens",
        f"            {6 * short.learnt + 6 * long.learnt} of them are the assistant's and learnt",
        "            6 chats are cut at 60 tokens",
        "            6 of them lose their last answer or its end",
        "            0 more are left out: no turn of the assistant before the cut",
        "steps       6",
    ]
    assert lines[-1].startswith("memory      about 0.0 GiB of ")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
    finetune.main([str(run_file), "--dry-run"])
    short_of = "memory      about 0.0 GiB, more than the 0.0 GiB free of this machine"
    assert capsys.readouterr().out.splitlines()[-1] == short_of
    assert not (tmp_path / "out").exists()


def test_what_will_not_do_is_said_before_the_data_is_read(
    run_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(*words: Any, **options: Any) -> None:
        raise AssertionError("the data was read")

    monkeypatch.setattr(chats, "load", called)

    def said(*words: str) -> str:
        with pytest.raises(SystemExit):
            finetune.main([str(run_file), *words])
        return capsys.readouterr().err

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=0))
        assert "memory: found 0.0 GiB free of this machine, expected about 0.0 GiB" in said()
        assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    assert said() == f"{out}: found a folder with something else in it, expected a new one: set output\n"
    settings = settings_module.load(run_file).model_dump(mode="json")
    (out / "record.json").write_text(json.dumps({"settings": settings, "processes": 2}))
    assert said() == f"{out}: found a run with other processes, expected the same: set output\n"
    (out / "record.json").write_text(json.dumps({"settings": settings, "processes": 1, "loss": 1.0}))
    found = "found a run with other settings, expected the same: set output"
    assert said("--set", "lora.r=2") == f"{out}: {found}\n"
    found = "found a finished run (adapter and record are there), expected a new folder: set output"
    assert said() == f"{out}: {found}\n"
    with pytest.raises(AssertionError, match="the data was read"):
        finetune.main([str(run_file), "--dry-run"])


def test_a_cut_within_the_last_answer_is_told_from_one_before_it(tiny: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    chat = chats.Chat("x", TALK)
    whole = preflight.size(chat, tokenizer, PLAIN.read_text(), 1000)
    for length, lost in ((whole.tokens, False), (whole.tokens - 1, False), (whole.tokens - 2, True)):
        found = preflight.size(chat, tokenizer, PLAIN.read_text(), length)  # the last token is the line break
        assert (found.cut, found.answer_cut, found.learnt) == (whole.tokens - length, lost, whole.learnt - lost)


def train(file: Path, *sets: str) -> dict[str, Any]:
    """Train; return the record."""
    settings = settings_module.load(file, list(sets))
    finetune.train(finetune.prepare(settings))
    record: dict[str, Any] = json.loads((settings.output / "record.json").read_text())
    return record


def test_training_changes_the_model_and_a_rate_of_0_does_not(
    run_file: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = train(run_file)
    out = tmp_path / "out"
    assert record["steps"] == record["steps_done"] == 6  # 12 chats, 2 x 2 a step, 2 epochs
    rows = [line.split(",") for line in (out / "log.csv").read_text().splitlines()]
    assert rows[0] == ["step", "epoch", "loss", "learning_rate", "grad_norm"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1][2]) < float(rows[1][2]) - 0.01
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert record["data"] == {"sha256": chats.digest(chats.load(str(tmp_path / "chats.jsonl"))), "chats": 12,
                              "left_out": 0, "cut": 0, "answers_cut": 0}  # fmt: skip
    assert record["template"] == hashlib.sha256(PLAIN.read_bytes()).hexdigest()
    assert record["settings"]["lora"]["r"] == 4
    assert set(record["versions"]) == {"python", *finetune.PACKAGES}
    base = logits(AutoModelForCausalLM.from_pretrained(tiny))
    tuned = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), out))
    assert (tuned - base).abs().max() > 1e-3
    histories: list[list[dict[str, float]]] = []
    monkeypatch.setattr(finetune, "plot", lambda history, file: histories.append(history))
    every = ("training.logging_steps=4", "training.save_steps=3")
    record = train(run_file, "training.learning_rate=0", *every, f"output={tmp_path / 'zero'}")
    rows = [line.split(",") for line in (tmp_path / "zero" / "log.csv").read_text().splitlines()]
    assert [row[0] for row in rows[1:]] == ["1", "3", "4", "6"]  # before every checkpoint, too
    first, second, third, last = (float(row[2]) for row in rows[1:])
    assert record["loss"] == pytest.approx((first + 2 * second + third + 2 * last) / 6, rel=1e-12)
    assert record["loss"] == pytest.approx(histories[0][-1]["train_loss"], rel=1e-6)  # the trainer's own
    same = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), tmp_path / "zero"))
    assert torch.equal(same, base)


def test_what_was_interrupted_goes_on_as_if_it_had_not_been(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(PLAIN.read_text())
    own = f"model.chat_template={template}"
    whole = train(run_file, own, f"output={tmp_path / 'whole'}")
    log = finetune._Log.on_log

    def dies(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        log(self, args, state, control, **kwargs)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(finetune._Log, "on_log", dies)
        with pytest.raises(KeyboardInterrupt):
            train(run_file, own)
    out = tmp_path / "out"
    record = json.loads((out / "record.json").read_text())
    assert "loss" not in record
    assert record["seconds"] > 0  # noted when the checkpoint was written
    (out / "record.json").write_text(json.dumps({**record, "seconds": 5000}))
    with pytest.raises(EicapError, match="found a run with other settings, expected the same: set output"):
        train(run_file, own, "training.learning_rate=0.02")
    template.write_text(PLAIN.read_text().replace("User: ", "Human: "))
    with pytest.raises(EicapError, match="found a run with other template, expected the same: set output"):
        train(run_file, own)
    template.write_text(PLAIN.read_text())
    (out / "checkpoint-5").mkdir()  # as when killed while it is written: the state comes last
    (out / "checkpoint-5" / "adapter_model.safetensors").write_text("half")
    record = train(run_file, own)
    assert 5000 < record["seconds"] < 5600
    assert record["loss"] == pytest.approx(whole["loss"], rel=1e-12)
    assert (out / "log.csv").read_bytes() == (tmp_path / "whole" / "log.csv").read_bytes()
    assert (out / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "whole" / "adapter_model.safetensors"
    ).read_bytes()
    with pytest.raises(EicapError, match="found a finished run"):
        train(run_file, own)


class _Saves:
    """What `finetune.save` needs of a trainer; as transformers does, it writes nothing of a model in parts."""

    def __init__(self, output: Path, kind: str | None) -> None:
        self.is_fsdp_enabled = kind is not None
        plugin: Any = SimpleNamespace(kind=kind, set_state_dict_type=lambda kind: setattr(plugin, "kind", kind))
        self.accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin))
        self.args = SimpleNamespace(output_dir=str(output), should_save=True)

    def save_model(self) -> None:
        """Write, or not."""
        if self.accelerator.state.fsdp_plugin.kind in (None, "FULL_STATE_DICT"):
            (Path(self.args.output_dir) / "adapter_model.safetensors").write_text("adapter")


@pytest.mark.parametrize("kind", [None, "SHARDED_STATE_DICT", "FULL_STATE_DICT"])
def test_an_adapter_is_written_whole_under_fsdp(kind: str | None, tmp_path: Path) -> None:
    finetune.save(_Saves(tmp_path, kind))
    assert (tmp_path / "adapter_model.safetensors").read_text() == "adapter"


def test_a_run_without_an_adapter_is_not_finished(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        Path(output_dir or self.args.output_dir).mkdir(parents=True, exist_ok=True)  # the optimizer's state goes there

    monkeypatch.setattr("finetune.SFTTrainer.save_model", nothing)
    file = re.escape(str(tmp_path / "out" / "adapter_model.safetensors"))
    with pytest.raises(EicapError, match=f"^{file}: found no adapter after the training"):
        train(run_file, "training.max_steps=1")
    assert "loss" not in json.loads((tmp_path / "out" / "record.json").read_text())


def test_a_folder_with_something_else_is_left_alone(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(EicapError, match="found a folder with something else in it, expected a new one"):
        train(run_file)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def first_loss(out: Path) -> float:
    return float((out / "log.csv").read_text().splitlines()[1].split(",")[2])


def test_packing_changes_no_loss(run_file: Path, tmp_path: Path) -> None:
    """All twelve chats in one step: packed into fewer rows, the mean over the assistant's tokens is the same."""
    one = ["training.gradient_accumulation=1", "training.epochs=1", "lora.dropout=0"]
    train(run_file, *one, "training.batch_size=12", f"output={tmp_path / 'rows'}")
    train(run_file, *one, "training.batch_size=12", "training.packing=true", f"output={tmp_path / 'packed'}")
    assert first_loss(tmp_path / "packed") == pytest.approx(first_loss(tmp_path / "rows"), abs=1e-5)


def test_two_processes_learn_what_one_does(run_file: Path, tmp_path: Path) -> None:
    """Two of one chat each over gloo, and one of two chats: the same losses."""
    train(run_file, "lora.dropout=0", f"output={tmp_path / 'one'}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    words = [str(FOLDER / "finetune.py"), str(run_file)]
    sets = ("lora.dropout=0", "training.batch_size=1", f"output={tmp_path / 'two'}")
    done = subprocess.run(
        [*command, *words, *(word for each in sets for word in ("--set", each))],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / "two" / "record.json").read_text())["processes"] == 2
    curves = [
        [float(line.split(",")[2]) for line in (tmp_path / name / "log.csv").read_text().splitlines()[1:]]
        for name in ("one", "two")
    ]
    assert len(curves[0]) == 6
    assert curves[1] == pytest.approx(curves[0], abs=2e-4)
