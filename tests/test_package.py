"""The package as it is installed: its stub, its marks, its commands and its documents."""

import re
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import pytest

import pyengine as pe
from pyengine import _C

ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=600, **options)


def test_stub_is_that_of_the_built_module():
    done = run(sys.executable, ROOT / "tools" / "stubs.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_stub_check_sees_differences(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import stubs

    built = stubs.stub()
    assert stubs.differences(built, built) == []
    assert stubs.differences(built.replace("def cat(", "def kat("), built) == [
        "cat: in the built module, not in the stub",
        "kat: in the stub, not in the built module",
    ]
    changed = stubs.differences(built.replace("keepdim: _bool = False", "keepdim: _bool = True", 1), built)
    assert len(changed) == 1 and "keepdim" in changed[0]
    # A second signature of the same name counts as well.
    assert stubs.differences(built, built + "\n@overload\ndef max(other: Tensor) -> Tensor: ...\n") != []


def test_typed_and_stub_are_installed():
    files = resources.files("pyengine")
    assert files.joinpath("py.typed").is_file() and files.joinpath("_C.pyi").is_file()


def test_version_is_the_distribution_s():
    try:
        version = metadata.version("pyengine")
    except metadata.PackageNotFoundError:
        pytest.skip("pyengine is run from its source folder")
    assert pe.__version__ == _C.__version__ == version


def test_public_names_have_documentation():
    functions = {name: value for name, value in vars(_C).items() if callable(value) and not name.startswith("_")}
    undocumented = []
    for name, value in functions.items():
        lines = (value.__doc__ or "").splitlines()
        text = [line for line in lines if line.strip() and " -> " not in line and line != "Overloaded function."]
        if not text or text == [f"{name}(*args, **kwargs)"]:
            undocumented.append(name)
    assert undocumented == []


def test_import_is_light():
    code = "import sys, pyengine; print(sorted(set(sys.modules) & {'matplotlib', 'tqdm', 'torch', 'pyengine.train'}))"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def fenced_blocks(section: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found
    return re.findall(r"^```bash\n(.*?)^```$", found[1], re.MULTILINE | re.DOTALL)


def test_readme_has_the_two_commands():
    job, tests = fenced_blocks("Start")
    assert "pip install" in job and job.splitlines()[-1].startswith("pyengine train")
    assert "pip install" in tests and tests.splitlines()[-1] == "pytest"
    for block in (job, tests):
        assert "$ " not in block and run("bash", "-n", input=block).returncode == 0


def test_readme_example_runs(capsys):
    text = (ROOT / "README.md").read_text()
    for example in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        exec(compile(example, "README.md", "exec"), {})
    assert "loss" in capsys.readouterr().out


def test_links_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
