"""The model configurations of examples/models, and the command that runs a list of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import artificial
import lm_eval
import pytest
import torch
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from models import CHAT_TEMPLATES, ScriptedModel, oracle
from runs import items_file, noisy, write_run
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, T5Config

from eicap_tasks.runner import TASKS

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "models"
sys.path.insert(0, str(FOLDER))

import boards  # noqa: E402
import estimate  # noqa: E402
import plan  # noqa: E402
import run  # noqa: E402
import work  # noqa: E402

LARGE = {
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "llama-3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
    "gemma-2-9b": "google/gemma-2-9b",
    "gemma-2-9b-it": "google/gemma-2-9b-it",
    "qwen2.5-7b": "Qwen/Qwen2.5-7B",
    "qwen2.5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct",
}
SMALL = {
    "smollm2-135m-instruct": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "gemma-3-270m": "google/gemma-3-270m",
    "qwen2.5-0.5b": "Qwen/Qwen2.5-0.5B",
    "qwen2.5-0.5b-instruct": "Qwen/Qwen2.5-0.5B-Instruct",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama-3.2-1b-instruct": "meta-llama/Llama-3.2-1B-Instruct",
}
FILES = {f"hf/{name}": hub for name, hub in (LARGE | SMALL).items()} | {f"vllm/{name}": LARGE[name] for name in LARGE}
CHAT = {
    "llama-3-8b-instruct", "gemma-2-9b-it", "qwen2.5-7b-instruct",
    "smollm2-135m-instruct", "qwen2.5-0.5b-instruct", "llama-3.2-1b-instruct",
}  # fmt: skip
BASE_TASKS = ["eicap", "eicap_circular", "eicap_cf"]


def settings(file: str) -> dict[str, Any]:
    """What a file says, from what its model is."""
    backend, name = file.split("/")
    arguments: dict[str, Any] = {"pretrained": FILES[file], "dtype": "float32" if name in SMALL else "bfloat16"}
    if name.startswith("gemma"):
        arguments["add_bos_token"] = True
    if name == "llama-3.2-1b-instruct":
        arguments["chat_template_args"] = {"date_string": "26 Jul 2024"}
    if file.startswith("hf/gemma-2-"):
        arguments["attn_implementation"] = "eager"
    if backend == "vllm":
        arguments |= {"max_model_len": 8192, "gpu_memory_utilization": 0.8}
    return {
        "model": backend,
        "model_args": arguments,
        "tasks": BASE_TASKS[:2] if name in CHAT else BASE_TASKS,
        **({"apply_chat_template": True} if name in CHAT else {}),
        "batch_size": "auto",
        **({"max_batch_size": 2} if name in SMALL else {}),
        "log_samples": True,
    }


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dialogues with four probes each, in English and in Arabic."""
    return items_file(tmp_path_factory.mktemp("items"), artificial.dialogues(3))


def test_the_files_are_there() -> None:
    assert sorted(FILES) == sorted(f"{file.parent.name}/{file.stem}" for file in FOLDER.glob("*/*.yaml"))


@pytest.mark.parametrize("name", FILES)
def test_settings(name: str, items: Path) -> None:
    """Each file says what its model needs, and lm-eval takes it as it is, with tasks that exist."""
    read = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert read == settings(name)
    assert list(read) == list(settings(name))
    (model,) = plan.models([name], Path("out"), ["--metadata", json.dumps({"eicap": {"data": str(items)}})])
    assert {key: getattr(model.config, key) for key in read} == read
    assert model.config.fewshot_as_multiturn is (True if "apply_chat_template" in read else None)
    assert len(model.tasks) == (16 if "apply_chat_template" in read else 24)


@pytest.mark.parametrize("name", LARGE)
def test_the_backends_agree(name: str) -> None:
    """What is asked, and how, is the same; only what a backend alone knows differs."""
    own = {"attn_implementation", "max_model_len", "gpu_memory_utilization"}
    hf, vllm = (yaml.safe_load((FOLDER / backend / f"{name}.yaml").read_text()) for backend in ("hf", "vllm"))
    for read in (hf, vllm):
        del read["model"]
        read["model_args"] = {key: value for key, value in read["model_args"].items() if key not in own}
    assert hf == vllm


def test_the_sizes_are_those_of_the_architectures() -> None:
    entries = yaml.safe_load((FOLDER / "sizes.yaml").read_text())
    assert sorted(hub for entry in entries for hub in entry["models"]) == sorted(set(FILES.values()))
    for entry in entries:
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(AutoConfig.for_model(**entry["config"]))
        assert built.num_parameters() == entry["parameters"], entry["models"]


def test_lm_eval_takes_a_file_unchanged(tmp_path: Path, items: Path) -> None:
    words = [
        "run",
        "--config",
        str(FOLDER / "vllm" / "gemma-2-9b.yaml"),
        "--output_path",
        str(tmp_path),
        "--limit",
        "1",
    ]
    words += ["--metadata", json.dumps({"eicap": {"data": str(items)}})]
    command = [sys.executable, str(ROOT / "tests" / "readme_command.py"), "lm_eval", *words]
    env = {**os.environ, "OURS_ALONE": "1"}
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stderr[-2000:]
    arguments = ["add_bos_token", "dtype", "gpu_memory_utilization", "max_model_len", "pretrained"]
    assert f"model arguments: {arguments}\n" in ended.stdout
    assert len(list(tmp_path.rglob("samples_*.jsonl"))) == 24


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, items: Path) -> Write:
    """Write a configuration with small own items."""

    def config(name: str, **given: Any) -> Path:
        file = tmp_path / f"{name}.yaml"
        asked = {"model": "hf", "model_args": {"pretrained": name}, "tasks": ["eicap_en", "eicap_circular_en"]}
        own = {"apply_chat_template": True, "log_samples": True, "metadata": {"eicap": {"data": str(items)}}}
        file.write_text(yaml.safe_dump({**asked, **own, **given}))
        return file

    return config


STAND_IN = f"""
import os, signal, sys
from pathlib import Path
folder = Path(__file__).parent
with (folder / "calls").open("a") as calls:
    print(*sys.argv[1:], file=calls)
if "says-a.yaml" in " ".join(sys.argv) and (folder / "broken").exists():
    if (folder / "broken").read_text() == "kill":
        os.kill(os.getppid(), signal.{signal.SIGKILL.name})
    sys.exit(1)
if sys.argv[1] == "run" or not (folder / "broken").exists():
    from readme_command import main
    main(["eicap", *sys.argv[1:]])
"""


def test_a_list_of_models(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One is killed, then fails, then is done; what is finished is not run again; the leaderboard has both."""
    script, broken, calls = tmp_path / "stand_in.py", tmp_path / "broken", tmp_path / "calls"
    script.write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{FOLDER}")
    monkeypatch.setattr(run, "EICAP", [sys.executable, str(script)])
    files = [str(write("good")), str(write("says-a", model="vllm", batch_size="auto"))]
    out = tmp_path / "out"

    def finished(name: str) -> list[Path]:
        """Its result files of complete runs."""
        markers = (out / name).glob("*/finished.txt")
        return [marker.parent / line for marker in markers for line in marker.read_text().splitlines()]

    def called() -> list[str]:
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [" ".join(line.split()[:3]).replace(f"{tmp_path}/", "") for line in lines]

    broken.write_text("kill")
    command = f"import run, sys; run.EICAP = {run.EICAP}; sys.exit(run.main({[*files, '--out', str(out)]}))"
    killed = subprocess.run([sys.executable, "-c", command], check=False, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL
    assert "[1/2] good: hf, eicap_en, eicap_circular_en, into " in killed.stdout
    assert called() == ["run --config good.yaml", "run --config says-a.yaml"]
    assert [len(finished(name)) for name in ("good", "says-a")] == [1, 0]

    broken.write_text("fail")
    assert run.main([*files, "--out", str(out)]) == 1
    printed = capfd.readouterr().out
    assert "[1/2] good: finished before, skipped\n" in printed
    assert "[2/2] says-a: failed after " in printed
    assert "done: none\nfinished before, skipped: good\nfailed: says-a\n" in printed
    ranked = f"leaderboard good={finished('good')[0]} --out".replace(f"{tmp_path}/", "")
    assert called() == ["run --config says-a.yaml", ranked]

    broken.unlink()
    assert run.main([*files, "--out", str(out)]) == 0
    assert "done: says-a\nfinished before, skipped: good\nfailed: none\n" in capfd.readouterr().out
    (folder,) = (out / "says-a").glob("*/")
    whole = calls.read_text().splitlines()[0]
    assert whole.endswith(f"--batch_size 1024 --output_path {folder} --use_cache {folder}/cache --log_samples")
    assert len(called()) == 2
    board = json.loads((out / "leaderboard" / "leaderboard.json").read_text())
    assert [entry["name"] for entry in board["entries"]] == ["good", "says-a"]

    broken.write_text("fail")  # nothing is run that could fail
    assert run.main([*files, "--out", str(out)]) == 0
    assert "done: none\nfinished before, skipped: good, says-a\nfailed: none\n" in capfd.readouterr().out
    assert [line.split()[0] for line in called()] == ["leaderboard"]
    assert run.main([*files, "--out", str(out), "--dry-run", "--tflops", "1"]) == 0
    assert capfd.readouterr().out.count("finished") == 2
    assert run.main([files[1], "--out", str(out), "--limit", "2"]) == 1
    assert "no leaderboard: with a limit only some probes are asked" in capfd.readouterr().out
    assert called() == ["run --config says-a.yaml"]
    assert len(finished("says-a")) == 1
    limits = {limit: plan.models(files[:1], out, ["--limit", limit])[0] for limit in ("2", "0.5", "3", "9")}
    assert [limit for limit, model in limits.items() if model.finished()] == ["3", "9"]  # there are three probes
    changed = write("good", model_args={"pretrained": "good", "dtype": "float16"})
    models = plan.models([str(changed)], out, []), plan.models([str(changed)], out, ["--batch_size", "3"])
    assert models[0][0].finished() is None
    assert models[0][0].folder == models[1][0].folder != folder


def test_no_finished_run_is_lost(
    tmp_path: Path, items: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every configuration is ranked beside those that were asked the same, whatever was run in between."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)  # it calls pip: seconds
    letters = {"labels": "arabic"}
    asked: list[tuple[str, list[str], dict[str, Any]]] = [
        ("hf/a/one", ["eicap_cause_en"], {}),
        ("hf/a/one", ["eicap_cause_en_cf"], {}),
        ("hf/b/two", ["eicap_cause_en", "eicap_cause_en_circular"], {}),
        ("hf/a/three", ["eicap_cause_en"], letters),
        ("hf/a/four", ["eicap_cause_en"], {}),
        ("hf/a/one", ["eicap_cause_en_circular"], {}),
        ("c/five", ["eicap_cause_en_circular"], {}),
    ]
    runs = []
    for seed, (place, tasks, options) in enumerate(asked):
        folder = tmp_path / place
        before = set(folder.rglob("results_*.json"))
        write_run(folder, noisy(seed), tasks, data=items, options=options)
        (file,) = set(folder.rglob("results_*.json")) - before
        for _ in range(2):  # found finished by a later call
            boards.mark(local(folder), file)
        runs.append(file)
    one, cloze, two, three, four, circular, _ = runs
    assert boards.boards(tmp_path) == [
        [f"hf/a@four={four}", f"hf/a@one={one}", f"hf/a@one={circular}", f"hf/b={two}"],
        [f"hf/a={three}"],
    ]
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("not ")]
    assert told == [
        f"not ranked: {cloze}: found the formats cf, expected letters among them",
        "not in leaderboard 1: hf/a@three: eicap_cause_en: labels: found arabic, expected latin of hf/a@one; "
        "models of one leaderboard are asked the same",
        "not ranked: c@five: found circular tasks alone, expected a run in the format that ranks, too",
    ]
    monkeypatch.setattr(run, "EICAP", ["echo"])
    assert run.rank(tmp_path)
    assert f"leaderboard hf/a={three} --out {tmp_path}/leaderboard-2\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    "tasks", [["eicap_en", "eicap_circular_en", "eicap_cf_en", "eicap_gen_ar"], ["eicap_chain_ar"]]
)
@pytest.mark.parametrize("further", [[], ["--apply_chat_template", "--limit", "2", "--num_fewshot", "1"]])
def test_requests_are_those_of_lm_eval(tmp_path: Path, write: Write, tasks: list[str], further: list[str]) -> None:
    file = write("unknown", tasks=tasks, apply_chat_template=False)
    (model,) = plan.models([str(file)], tmp_path, further)
    counted = work.work_of(model, None)
    scripted, metadata = ScriptedModel(oracle), {"eicap": model.config.metadata["eicap"]}
    results = lm_eval.simple_evaluate(
        model=scripted, tasks=tasks, limit=2 if further else None, num_fewshot=1 if further else None,
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata), bootstrap_iters=0,
        apply_chat_template=bool(further),
    )  # fmt: skip
    assert counted.requests == len(scripted.prompts)
    assert counted.probes == sum(len(samples) for samples in results["samples"].values())
    per_task = 2 if further else 3
    assert counted.probes == per_task * len(results["samples"])
    if (
        len(tasks) > 1
    ):  # in four layers: 4 letters, 4 in each rotation, 4 continuations with and without prompt, 1 answer
        assert counted.requests == per_task * 4 * (4 + 16 + 8 + 1)
        # the plain prompt is the first rotation of the circular ones; every continuation needs its own pass
        assert counted.passes == per_task * 4 * (4 + 8 + 1)
    assert (counted.counted, counted.generated) == (False, len(tasks) > 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 1 layer with random weights; its tokenizer begins every text with BOS, as its chat template does."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["Answer: A", "Answer: B", "Answer: C", "Answer: D"] * 2, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = (CHAT_TEMPLATES / "llama3.jinja").read_text()
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=8192, tie_word_embeddings=True,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [False, True])
def test_passes_and_tokens_are_those_of_the_model(
    tmp_path: Path, write: Write, tiny: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    """What the `hf` backend really hands to the model, counted there."""
    arguments = {"pretrained": str(tiny), "dtype": "float32"}
    tasks = ["eicap_en", "eicap_circular_en", "eicap_cf_en"]
    file = write("tiny", model_args=arguments, tasks=tasks, apply_chat_template=chat)
    (model,) = plan.models([str(file)], tmp_path, ["--limit", "1"])
    counted, size = work.work_of(model, None), estimate.size_of(model)
    lm, seen = HFLM(**arguments, device="cpu"), []
    assert size is not None
    assert size.parameters == lm.model.num_parameters()
    call = lm._model_call

    def count(tokens: Any) -> Any:
        seen.append(tuple(tokens.shape))
        return call(tokens)

    monkeypatch.setattr(lm, "_model_call", count)
    metadata = {"eicap": model.config.metadata["eicap"]}
    lm_eval.simple_evaluate(
        model=lm, tasks=tasks, limit=1, apply_chat_template=chat, bootstrap_iters=0,
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata),
    )  # fmt: skip
    assert counted.counted
    assert counted.passes == len(seen)
    assert counted.tokens == sum(rows * columns for rows, columns in seen)
    assert counted.longest == 1 + max(columns for _, columns in seen)


def test_the_dry_run(
    tmp_path: Path, write: Write, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = write("tiny", model_args={"pretrained": str(tiny), "dtype": "float32"}, batch_size=3)
    unknown = write("unknown")
    assert run.main([str(known), str(unknown), "--out", str(tmp_path / "out"), "--dry-run", "--tflops", "1e-6"]) == 0
    assert not (tmp_path / "out").exists()
    first, second = capsys.readouterr().out.splitlines()[3:5]
    (model,) = plan.models([str(known)], tmp_path, [])
    counted, size = work.work_of(model, None), estimate.size_of(model)
    assert size is not None
    vocabulary, layers, heads = size.config.vocab_size, 1, 1
    per_token = 2 * vocabulary + 2 * layers * heads * 8 + 2 * 16 + 3 * 32
    assert size.memory("float32", 3, 100) == 4 * (size.parameters + 3 * 100 * per_token)
    seconds = 2 * size.parameters * counted.tokens / (0.4 * 1e6)
    assert size.seconds(counted.tokens, 1e6) == seconds
    memory = f"{size.memory('float32', 3, counted.longest) / 2**30:.1f}"
    cells = ["tiny", "hf", "eicap_en,", "eicap_circular_en", "24", "240", "48", f"{counted.tokens:,}", memory, "GiB"]
    assert first.split() == [*cells, *estimate.clock(seconds).split()]
    assert second.split()[:7] == ["unknown", "hf", "eicap_en,", "eicap_circular_en", "24", "240", "~48"]
    assert second.split()[7].startswith("~")
    assert second.split()[8:] == ["unknown", "unknown"]
    monkeypatch.setattr(estimate, "time", SimpleNamespace(monotonic=iter([0.0, 0.5, 2.0]).__next__))
    assert estimate.measured("float32") == 2 * 1024**3 * 1 / 2.0


def test_memory_of_attention_scores() -> None:
    """Gemma 2's are kept whole: 16 heads, in bfloat16 and in float32."""
    entries = {entry["models"][0]: entry for entry in yaml.safe_load((FOLDER / "sizes.yaml").read_text())}
    gemma = entries["google/gemma-2-9b"]
    size = estimate.Size(gemma["parameters"], AutoConfig.for_model(**gemma["config"]))
    per_token = 2 * (2 * 256_000 + 2 * 42 * 8 * 256 + 2 * 3584 + 3 * 14336) + (2 + 4) * 16 * 1000
    assert size.memory("bfloat16", 2, 1000) == 2 * 9_241_705_984 + 2 * 1000 * per_token


@pytest.mark.parametrize(
    ("kind", "given", "pairs", "head", "wide"),
    [
        ("gpt_neox", {"intermediate_size": 96}, 4, 8, 96),  # Pythia: no num_key_value_heads
        ("gpt2", {}, 4, 8, 128),  # nor intermediate_size, but four times the hidden one
        ("gpt2", {"n_inner": 96}, 4, 8, 96),
        ("opt", {"ffn_dim": 96, "word_embed_proj_dim": 32}, 4, 8, 96),
        ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 96}, 2, 8, 96),
        ("mamba", {"intermediate_size": 64}, 0, 0, 64),  # no attention: no keys and values
        ("gemma3_text", {"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96}, 2, 16, 96),
    ],
)
def test_memory_of_other_architectures(
    tmp_path: Path, kind: str, given: dict[str, Any], pairs: int, head: int, wide: int
) -> None:
    """What a model is called differs from one architecture to the next."""
    sizes = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3}
    AutoConfig.for_model(kind, **sizes, **given, **({"num_attention_heads": 4} if pairs else {})).save_pretrained(
        tmp_path
    )
    size = estimate.size_of(local(tmp_path))
    assert size is not None
    per_token = 2 * 300 + 2 * 3 * pairs * head + 2 * 32 + 3 * wide
    assert size.memory("bfloat16", 2, 100) == 2 * (size.parameters + 2 * 100 * per_token)


def test_the_size_of_an_encoder_decoder_is_unknown(tmp_path: Path) -> None:
    T5Config(vocab_size=300, d_model=32, num_layers=1).save_pretrained(tmp_path)
    assert estimate.size_of(local(tmp_path)) is None


def local(folder: Path) -> plan.Model:
    config = SimpleNamespace(model_args={"pretrained": str(folder)})
    return plan.Model("local", folder, config, folder)


@pytest.mark.parametrize(
    ("seconds", "text"), [(59.6, "60 s"), (119, "119 s"), (150, "2 min"), (7190, "120 min"), (9000, "2.5 h")]
)
def test_clock(seconds: float, text: str) -> None:
    assert estimate.clock(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hf/qwen2.5-7B"], "MODEL: found 'hf/qwen2.5-7B', allowed: hf/gemma-2-9b-it, "),
        (["hf/qwen2.5-7B"], "; did you mean 'hf/qwen2.5-7b'?"),
        (["hf/qwen2.5-7b", "--output_path", "x"], "--output_path: found an argument that this command sets itself"),
        (["odd.yaml"], "odd.yaml: found 'batch_sise', allowed: config, model, "),
        (["odd.yaml"], "; did you mean 'batch_size'?"),
        (["no_task.yaml"], "no_task.yaml: tasks: found 'eicap_xx', expected tasks of this package"),
        (["twice.yaml"], "twice.yaml: tasks: found eicap, eicap_en (Duplicate task"),
        (["some.yaml"], "some.yaml: found samples, expected all probes"),
        (["text.yaml"], "text.yaml: metadata: found 3, expected names with values"),
        (["none.yaml"], "none.yaml: tasks: found none, expected tasks of this package"),
        (["list.yaml"], "list.yaml: YAML root must be a mapping"),
        (["hf/qwen2.5-7b", "--metadata", '{"eicap": {"datta": 1}}'], "metadata eicap.datta: found an unknown option"),
        (["odd.yaml", "folder/odd.yaml"], "folder/odd.yaml: found the name 'odd' of odd.yaml again"),
    ],
)
def test_what_cannot_be_used(
    arguments: list[str],
    message: str,
    items: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name, text in {
        "odd": "batch_sise: auto",
        "folder/odd": "",
        "no_task": "tasks: [eicap_xx]",
        "twice": f"tasks: [eicap, eicap_en]\nmetadata: {{eicap: {{data: {items}}}}}",
        "some": "tasks: eicap\nsamples: {eicap_cause_en: [0]}",
        "text": "metadata: 3",
        "none": "model: hf",
        "list": "[]",
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    assert run.main([*arguments, "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_command_itself() -> None:
    command = [sys.executable, str(FOLDER / "run.py"), "hf/qwen2.5-7b", "no-such-model"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("MODEL: found 'no-such-model', allowed: hf/gemma-2-9b-it, hf/gemma-2-9b, ")


def test_a_path_of_a_file_here_has_its_name(tmp_path: Path, items: Path) -> None:
    path = FOLDER / "hf" / "qwen2.5-7b.yaml"
    data = json.dumps({"eicap": {"data": str(items)}})
    (model,) = plan.models([str(path), "hf/qwen2.5-7b"], tmp_path, ["--metadata", data])
    assert (model.name, model.file) == ("hf/qwen2.5-7b", path)
