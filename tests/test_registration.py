"""Registration in real virtual environments: wheel, editable, editable lm-eval, turned off, uninstalled."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.venv

NAMES = "from lm_eval.tasks import TaskManager; print(*TaskManager(include_defaults=False).all_groups)"
GROUPS = " ".join(
    sorted(f"eicap{form}{part}" for form in ("", "_cf", "_chain", "_circular", "_gen") for part in ("", "_en", "_ar"))
)


class Environment:
    """A virtual environment without pip, which may see the packages of this one."""

    def __init__(self, folder: Path, shared: bool) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.folder = folder
        (self.site,) = folder.glob("lib/python*/site-packages")
        if shared:  # importable, but .pth files in there are not run
            (self.site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        self.before = self.listing()

    def listing(self) -> list[str]:
        """List all files but compiled modules of the standard packages; those of ours count."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return sorted(str(path) for path in files if "__pycache__" not in path.parts or "eicap" in path.name)

    def pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--python", str(self.folder), "-q", *arguments]
        subprocess.run(command, check=True)

    def install(self, wheel: Path) -> None:
        self.pip("install", "--no-index", "--no-deps", str(wheel))

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EICAP"))}
        env |= {"HF_HUB_OFFLINE": "1", **environ}
        command = [str(self.folder / "bin" / arguments[0]), *arguments[1:]]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=self.folder, check=False)

    def python(self, code: str, *options: str, **environ: str) -> str:
        out = self.run("python", *options, "-c", code, **environ)
        assert out.returncode == 0, out.stderr
        return out.stdout.strip()


def build(backend: str, hook: str, project: Path, out: Path) -> Path:
    """Build a wheel by calling a PEP 517/660 backend in a process of its own."""
    out.mkdir(exist_ok=True)
    code = f"import {backend} as b; print('built', b.{hook}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.strip().splitlines()[-1].removeprefix("built ")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("hatchling.build", "build_wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("hatchling.build", "build_editable", ROOT, tmp_path_factory.mktemp("editable"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("installed") / "venv", shared=True)
    environment.install(wheel)
    return environment


def test_the_plain_commands_work_after_a_wheel_install(installed: Environment) -> None:
    listed = installed.run("python", "-m", "lm_eval", "ls", "tasks")
    assert "eicap_appraisal_en" in listed.stdout, listed.stderr
    assert "hellaswag" in listed.stdout
    out = installed.run(
        "python", "-I", "-m", "lm_eval", "--model", "dummy", "--tasks", "eicap_appraisal_en", "--limit", "2"
    )
    assert "|eicap_appraisal_en|" in out.stdout, out.stderr
    code = (
        "import lm_eval, eicap_tasks; from lm_eval.tasks import TaskManager as T; t = T(include_defaults=False); "
        "r = lm_eval.simple_evaluate('dummy', tasks=['eicap'], task_manager=t, limit=1, bootstrap_iters=0); "
        "print(len(r['samples']), eicap_tasks.__file__)"
    )
    count, file = installed.python(code).splitlines()[-1].split(" ", 1)
    assert count == "8"
    assert Path(file).is_relative_to(installed.site)


def test_the_wheel_holds_templates_data_and_command(installed: Environment) -> None:
    shown = installed.run("eicap", "show", "eicap-290-t", "--lang", "ar").stdout
    assert shown.endswith("\nالإجابة:\n")
    assert Path(installed.run("eicap", "path").stdout.strip()) == installed.site / "eicap_tasks" / "tasks"
    doctor = installed.run("eicap", "doctor").stdout
    assert "lm_eval --tasks eicap works as it is" in doctor


def test_an_editable_install_registers_too(editable: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", shared=True)
    environment.install(editable)
    assert environment.python(NAMES) == GROUPS
    assert environment.python("import eicap_tasks; print(eicap_tasks.__file__)") == str(
        ROOT / "eicap_tasks" / "__init__.py"
    )
    assert environment.run("eicap", "show", "eicap-290-t").stdout.endswith("\nAnswer:\n")


def test_turned_off_by_a_variable(installed: Environment) -> None:
    assert installed.python(NAMES, EICAP_NO_HOOK="1") == ""
    path = installed.run("eicap", "path").stdout.strip()
    code = NAMES.replace("TaskManager(", f"TaskManager(include_path={path!r}, ")
    assert installed.python(code, EICAP_NO_HOOK="1") == GROUPS
    assert "turned off by EICAP_NO_HOOK" in installed.run("eicap", "doctor", EICAP_NO_HOOK="1").stdout


def test_the_users_own_paths_are_kept_and_win(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("task: eicap_mine\ndataset_path: x\noutput_type: multiple_choice\n")
    code = (
        "from lm_eval.tasks import TaskManager as T; "
        f"t = T(include_path={str(tmp_path)!r}, include_defaults=False); "
        "print(t.include_path, 'eicap_mine' in t.all_tasks, 'eicap_en' in t.all_tasks)"
    )
    assert installed.python(code) == f"{tmp_path} True True"


def test_nothing_remains_after_uninstalling(wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "venv", shared=True)
    environment.install(wheel)
    assert environment.python(NAMES) == GROUPS
    environment.pip("uninstall", "-y", "eicap-tasks")
    assert environment.listing() == environment.before
    assert environment.python(NAMES) == ""


def stand_in(folder: Path, manager: str) -> Path:
    """Write a package laid out like lm-eval, for setuptools' editable finder."""
    package = folder / "lm_eval" / "tasks"
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "lm_eval"\nversion = "0.4.13"\n'
        '[tool.setuptools.packages.find]\ninclude = ["lm_eval*"]\n'
    )
    (folder / "lm_eval" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("from lm_eval.tasks.manager import *\n")
    (package / "manager.py").write_text(manager)
    return folder


MANAGER = """
class TaskManager:
    def __init__(self, verbosity=None, include_path=None, include_defaults=True, metadata=None):
        self.paths, self.metadata = include_path, metadata
"""
PATHS = "from lm_eval.tasks import TaskManager; print(TaskManager().paths, TaskManager(include_path='x').paths)"


@pytest.mark.parametrize("ours", ["wheel", "editable"])
def test_with_an_editable_lm_eval(ours: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    project = stand_in(tmp_path / "harness", MANAGER)
    harness = build("setuptools.build_meta", "build_editable", project, tmp_path / "out")
    environment = Environment(tmp_path / "venv", shared=False)
    environment.install(harness)
    assert any("finder" in path.name for path in environment.site.iterdir()), "not the editable finder"
    environment.install(request.getfixturevalue(ours))
    base = environment.site if ours == "wheel" else ROOT
    tasks = repr(base / "eicap_tasks" / "tasks")
    assert environment.python(PATHS) == f"[{tasks}] [{tasks}, 'x']"
    environment.pip("uninstall", "-y", "eicap-tasks")
    assert environment.python(PATHS) == "None x"


def test_it_stands_aside_where_lm_eval_discovers_tasks_itself(wheel: Path, tmp_path: Path) -> None:
    project = stand_in(tmp_path / "harness", MANAGER + "\ndef discover_plugin_task_paths(): ...\n")
    environment = Environment(tmp_path / "venv", shared=False)
    environment.install(build("setuptools.build_meta", "build_wheel", project, tmp_path / "out"))
    environment.install(wheel)
    assert environment.python(PATHS) == "None x"
    code = (
        "from importlib.metadata import entry_points; from importlib.util import find_spec; "
        "(e,) = entry_points(group='lm_eval.tasks'); "
        "print(e.value, list(find_spec(e.value).submodule_search_locations))"
    )
    assert environment.python(code) == f"eicap_tasks.tasks ['{environment.site / 'eicap_tasks' / 'tasks'}']"


def test_it_never_breaks_lm_eval(wheel: Path, tmp_path: Path) -> None:
    project = stand_in(tmp_path / "harness", "answer = 42\n")
    environment = Environment(tmp_path / "venv", shared=False)
    environment.install(build("setuptools.build_meta", "build_wheel", project, tmp_path / "out"))
    environment.install(wheel)
    out = environment.run("python", "-c", "from lm_eval.tasks import answer; print(answer)")
    assert out.stdout == "42\n"
    assert out.stderr.startswith("eicap-tasks: registering the tasks failed: AttributeError(")
    assert 'use --include_path "$(eicap path)" instead' in out.stderr
