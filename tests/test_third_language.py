"""A third language needs templates, words, labels, items and YAML: no Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from eicap_tasks.runner import TASKS
from eicap_tasks.vocabulary import LAYERS

ROOT = Path(__file__).parent.parent
TOY = Path(__file__).parent / "items" / "toy.jsonl"

GREEK = str.maketrans(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "ΑΒΨΔΕΦΓΗΙΞΚΛΜΝΟΠΚΡΣΤΘΩΣΧΥΖαβψδεφγηιξκλμνοπκρστθωσχυζ"
)

GENERATION = {
    "do_sample": False, "temperature": 0.0, "max_gen_toks": 256, "until": ["\n\nΠλαίσιο:", "\n\nΕρώτηση για"],
}  # fmt: skip
"""The whole key, for it replaces that of `_gen_yaml`; it stops at the words of `templates/el`."""
WORDS = {'"Answer"': '"Απάντηση"', '"Setting"': '"Πλαίσιο"', "Question about": "Ερώτηση για"}

RUN = """
import json, pathlib, sys
import lm_eval
from lm_eval.tasks import TaskManager
from models import ScriptedModel, oracle
from runs import write_run
from eicap_tasks.runner import TASKS
out = {"tasks": {}, "groups": {}}
for labels in ("latin", "greek"):
    def write(doc):  # only the word for "answer" tells which of the letters is meant
        x, g = doc["labels"], doc["gold"]
        return f"Το {x[g - 1]} και το {x[g - 2]} είναι κοντά. Απάντηση: {x[g]}. Όμως το {x[g - 3]} μοιάζει."
    manager = TaskManager(include_path=str(TASKS), include_defaults=False, metadata={"eicap": {"labels": labels}})
    names = [name for name in manager.all_subtasks if "_el" in name]
    groups = [name for name in manager.all_groups if name.endswith("_el")]
    for chat in (False, True):
        done = lm_eval.simple_evaluate(model=ScriptedModel(oracle, write=write), tasks=groups, task_manager=manager,
                                       bootstrap_iters=0, apply_chat_template=chat, num_fewshot=1)
        for name in names:
            prompt, asked = done["samples"][name][0]["arguments"][0]
            score = next(v for k, v in done["results"][name].items() if k.startswith("acc,"))
            stop = asked["until"] if name.endswith("_gen") else None
            out["tasks"][f"{name} {labels} {chat}"] = [score, prompt, stop]
        for name in groups:
            out["groups"][f"{name} {labels} {chat}"] = {k: v for k, v in done["results"][name].items() if "," in k}
write_run(pathlib.Path("run"), oracle, ["eicap_el"])
json.dump(out, open(sys.argv[1], "w"))
"""


def test_greek(tmp_path: Path) -> None:
    """A copy of the package gets a toy Greek, by files of data alone, and all five formats of every layer run."""
    package = tmp_path / "eicap_tasks"
    shutil.copytree(TASKS.parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "templates", tmp_path / "templates")
    code = {path: path.read_bytes() for path in package.rglob("*.py")}

    vocabulary = json.loads((package / "vocabulary.json").read_text(encoding="utf-8"))
    vocabulary["languages"]["el"] = {
        "name": "Greek", "bcp47": "ell-Grek", "script": "GREEK", "direction": "ltr", "varieties": ["Standard"],
    }  # fmt: skip
    vocabulary["labels"]["greek"] = ["Α", "Β", "Γ", "Δ"]
    (package / "vocabulary.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    words = json.loads((package / "reading_words.json").read_text(encoding="utf-8"))
    words["el"] = {"positions": [["α"], ["β"], ["γ"], ["δ"]], "announces": ["απάντηση"]}
    (package / "reading_words.json").write_text(json.dumps(words), encoding="utf-8")

    shutil.copytree(tmp_path / "templates" / "en", tmp_path / "templates" / "el")
    for file in (tmp_path / "templates" / "el").iterdir():
        text = file.read_text(encoding="utf-8").replace('"en/', '"el/')
        for english, greek_word in WORDS.items():
            text = text.replace(english, greek_word)
        file.write_text(text, encoding="utf-8")

    toy = [json.loads(line) for line in TOY.read_text(encoding="utf-8").splitlines()]
    for split in ("test", "dev"):
        lines = []
        for dialogue in (d for d in toy if d["lang"] == "en"):
            greek = json.loads(json.dumps(dialogue).replace("toy-", f"{split}-"))
            greek |= {"lang": "el", "origin": "el", "setting": "Δοκιμή."}
            for turn in greek["turns"]:
                turn["text"] = f"Γειά {turn['text'].translate(GREEK)}"
            for speaker in greek["speakers"]:
                speaker["name"] = speaker["name"].translate(GREEK)
            for probe in greek["probes"]:
                probe |= {key: probe[key].translate(GREEK) for key in ("question", "answer")}
                for distractor in probe["distractors"]:
                    distractor["text"] = distractor["text"].translate(GREEK)
            lines.append(json.dumps(greek))
        folder = package / "data" / split / "el"
        folder.mkdir(parents=True)
        (folder / "toy.jsonl").write_text("\n".join(lines), encoding="utf-8")

    for folder in (TASKS, *(TASKS / name for name in ("circular", "gen", "cf", "chain"))):
        for layer in LAYERS:
            text = (folder / f"{layer}_en.yaml").read_text(encoding="utf-8")
            text = text.replace("_en", "_el").replace("lang: en", "lang: el")
            text += f"generation_kwargs: {json.dumps(GENERATION)}\n" if folder.name == "gen" else ""
            (package / "tasks" / folder.relative_to(TASKS) / f"{layer}_el.yaml").write_text(text, encoding="utf-8")
        (group,) = folder.glob("eicap*_en.yaml")
        name = group.name.replace("_en", "_el")
        text = group.read_text(encoding="utf-8").replace("_en", "_el")
        (package / "tasks" / folder.relative_to(TASKS) / name).write_text(text, encoding="utf-8")

    out = tmp_path / "out.json"
    paths = [str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}\n{RUN}", str(out)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(out.read_text())
    assert len(results["groups"]) == 5 * 2 * 2
    for name, scores in results["groups"].items():
        assert next(score for key, score in scores.items() if key.startswith("acc,")) == 1.0, name
        if name.startswith("eicap_gen_el"):
            assert scores["parse_rate,read"] == 1.0
    assert len(results["tasks"]) == 4 * 5 * 2 * 2
    for name, (score, prompt, stop) in results["tasks"].items():
        assert score == 1.0, name
        if "_gen " in name:
            assert stop == GENERATION["until"], name
            assert name.endswith(" True") or all(each in prompt for each in stop), name
        assert "Γειά" in prompt, name
        letters = "_cf " not in name
        assert ("\nΒ. " in prompt) == (letters and " greek " in name), name
        assert ("\nB. " in prompt) == (letters and " latin " in name), name
    report = subprocess.run(
        [sys.executable, "-m", "eicap_tasks.cli", "report", "run", "--out", "report"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert report.returncode == 0, report.stderr[-3000:]
    lines = (tmp_path / "report" / "report.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split(" | ")[:3] for line in lines if ", Greek | " in line]
    assert rows == [*([f"| {layer}, Greek", "2", "100.0"] for layer in LAYERS), ["| all, Greek", "8", "100.0"]]
    assert {path: path.read_bytes() for path in package.rglob("*.py")} == code
