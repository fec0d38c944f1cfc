"""The image, the workflows and the release: what can be held without Docker, GitHub or a package index."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def script(name: str) -> ModuleType:
    """A script of ``scripts/`` as a module."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        loader = importlib.machinery.SourceFileLoader(f"{name}_script", str(ROOT / "scripts" / name))
        spec = importlib.util.spec_from_loader(loader.name, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[loader.name] = module  # where dataclasses look
        loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    return module


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return found


def test_github_takes_the_workflows() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run(
        [*command, *map(str, WORKFLOWS)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_script_of_a_workflow_is_there() -> None:
    named = {name for path in WORKFLOWS for name in re.findall(r"python3 (scripts/\w+)", path.read_text())}
    assert len(named) >= 5
    assert all((ROOT / name).is_file() for name in named)


def test_what_is_promised_is_tested() -> None:
    """Versions in the documentation, the script and the workflow."""
    matrix = script("matrix")
    jobs = workflow("ci.yml")["jobs"]
    assert set(jobs["versions"]["strategy"]["matrix"]["row"]) == {
        *(f"postgres-{version}" for version in matrix.POSTGRES),
        matrix.OLDEST,
    }
    assert tuple(jobs["test"]["strategy"]["matrix"]["python"]) == matrix.PYTHONS
    timescale = jobs["timescaledb"]["strategy"]["matrix"]
    assert [str(version) for version in timescale["postgres"]] == list(matrix.POSTGRES)
    images = {str(row["postgres"]): row["image"] for row in timescale["include"]}
    assert all(images[version].endswith(f"-pg{version}") for version in matrix.POSTGRES)
    assert PROJECT["project"]["requires-python"] == f">={matrix.PYTHONS[0]}"
    assert f"from version {matrix.POSTGRES[0]}" in (ROOT / "README.md").read_text()


def test_the_image_has_what_it_copies_and_is_nobody() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if re.match(r"COPY (?!--from)", line) for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert let_in == set(copied)
    wanted = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = [*wanted["packages"], *wanted["force-include"], *wanted["shared-data"]]
    assert set(packed) <= set(copied)
    assert "USER krakendb" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)


def tree(folder: Path, **fragments: str) -> Path:
    (folder / "changelog.d").mkdir()
    (folder / "changelog.d" / "README.md").write_text("how\n")
    for name, text in fragments.items():
        (folder / "changelog.d" / f"{name.replace('__', '.')}.md").write_text(text)
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "0.1.0"\n\n[x]\nversion = "7"\n')
    log = "# Changelog\n\n<!-- new releases come below this line -->\n\n## [0.1.0] - 2026-01-01\n\n- Old.\n"
    (folder / "CHANGELOG.md").write_text(log)
    return folder


def test_a_release_collects_the_fragments(tmp_path: Path) -> None:
    release = script("release")
    folder = tree(tmp_path, b__added="- B.\n", a__added="- A.\n", c__fixed="- C.\n  More.\n")
    release.prepare(folder, "0.2.0")
    text = (folder / "CHANGELOG.md").read_text()
    new = text[text.index("## [0.2.0]") : text.index("## [0.1.0]")]
    assert new.split("\n", 1)[1] == "\n### Added\n\n- A.\n- B.\n\n### Fixed\n\n- C.\n  More.\n\n"
    assert 'version = "0.2.0"\n\n[x]\nversion = "7"' in (folder / "pyproject.toml").read_text()
    assert [path.name for path in (folder / "changelog.d").iterdir()] == ["README.md"]
    assert release.released_notes(folder, "0.2.0").startswith("### Added")
    assert release.released_notes(folder, "0.1.0") == "- Old.\n"


def test_fragments_of_unknown_kinds_are_refused(tmp_path: Path) -> None:
    release = script("release")
    with pytest.raises(release.RefusedError, match=r"a\.new\.md: it ends with one of \.added\.md"):
        release.notes(tree(tmp_path, a__new="- A.\n"))


def test_fragments_here_are_of_known_kinds() -> None:
    script("release").notes(ROOT)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("1", "is no version"),
        ("v0.2.0", "is no version"),
        ("0.1.0", "does not come after v0.1.0"),
        ("0.0.9", "does not come after v0.1.0"),
        ("0.2.0", "changelog.d has nothing"),
    ],
)
def test_what_is_in_the_way_is_told(
    version: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = script("release")
    answers = {"status": "", "branch": "main\n", "tag": "v0.1.0\nv0.0.2\nvague\n"}
    monkeypatch.setattr(release, "ROOT", tree(tmp_path))
    monkeypatch.setattr(release, "git", lambda command, *_more, **_options: answers[command])
    with pytest.raises(release.RefusedError, match=reason):
        release.check(version)


def test_a_tag_must_be_of_the_version(tmp_path: Path) -> None:
    release = script("release")
    with pytest.raises(
        release.RefusedError, match=r"the tag is v0\.2\.0, and pyproject\.toml has version 0\.1\.0"
    ):
        release.build(tree(tmp_path), "v0.2.0")


def test_the_source_has_whatever_its_tests_and_its_image_read() -> None:
    included = set(PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"])
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone")
    names = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    # They come by themselves; .ci is for this repository alone.
    assert names - included == {".ci", ".gitignore", "LICENSE", "pyproject.toml"} & names
