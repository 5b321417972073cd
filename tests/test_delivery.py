"""What users copy: the workflow of GitHub Actions, the compose file, the example Dockerfile; held against the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from torchlock.images import application
from torchlock.oci.descriptor import PLATFORMS
from torchlock.profiles import profile

ROOT = Path(__file__).parents[1]
# PyYAML reads the key `on` as YAML 1.1 has it: true.
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_bytes())
JOBS: dict[str, Any] = WORKFLOW["jobs"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker/compose.yaml").read_bytes())
STEPS = [step for job in JOBS.values() for step in job["steps"]]
RUNS = "\n".join(step["run"] for step in STEPS if "run" in step)
MAKES = re.findall(r"\bmake (\S+)((?: [A-Z]+=\S+)*)", RUNS)


def imaged() -> list[tuple[str, str]]:
    """Return every profile and platform that can have an image."""
    found = profile.load(ROOT / "environments").profiles.values()
    targets = [target for item in found for target in item.targets]
    return [(item.profile, item.platform) for item in targets if item.platform in PLATFORMS and item.variant != "mps"]


def test_the_matrix_is_that_of_the_profiles() -> None:
    """A new line, variant or platform is built as soon as it is declared, and nothing that is not."""
    rows = JOBS["image"]["strategy"]["matrix"]["include"]
    assert sorted((row["profile"], row["platform"]) for row in rows) == sorted(imaged())
    arms = {row["runner"] for row in rows if row["platform"] == "linux-aarch64"}
    others = {row["runner"] for row in rows if row["platform"] != "linux-aarch64"}
    assert all(name.endswith("-arm") for name in arms)
    assert not arms & others


def test_every_profile_of_several_platforms_gets_its_index() -> None:
    """And the index is made of all of them, after all of them are there."""
    platforms: dict[str, set[str]] = {}
    for name, platform in imaged():
        platforms.setdefault(name, set()).add(platform)
    several = {name: found for name, found in platforms.items() if len(found) > 1}
    job = JOBS["index"]
    assert set(job["strategy"]["matrix"]["profile"]) == several.keys()
    assert job["needs"] == "image"
    run = "\n".join(step.get("run", "") for step in job["steps"])
    assert {frozenset(found) for found in several.values()} == {frozenset(re.findall(r"PLATFORM=(\S+)", run))}


def test_it_makes_smokes_and_pushes() -> None:
    """With the registry as its cache, and with evidence; what is not committed fails."""
    made = [target.partition("-$")[0].partition('-"')[0] for target, _ in MAKES]
    assert made == ["image", "smoke-image", "push", "pull", "pull", "push"]
    assert "REGISTRY=" in MAKES[0][1]
    assert "EVIDENCE=1" in MAKES[2][1]
    assert 'test -z "$(git status --porcelain -- lockfiles)"' in RUNS
    assert not any("actions/cache" in step.get("uses", "") for step in STEPS)


@pytest.mark.parametrize(("name", "platform"), imaged())
def test_its_targets_are_in_the_makefile(name: str, platform: str) -> None:
    """`make` knows each of them for each row of the matrix, and every variable that is given reaches the tool."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (exported,) = re.findall(r"^\$\(foreach name,([A-Z ]+),\$\(eval export TORCHLOCK_", makefile, re.MULTILINE)
    for target, variables in MAKES:
        asked = target.replace('"$PROFILE"', name)
        done = subprocess.run(["make", "--dry-run", asked], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), asked
        assert set(re.findall(r"([A-Z]+)=", variables)) <= set(exported.split())


def test_nothing_is_taken_on_a_tags_word() -> None:
    """Actions are named by commit, with their version for people."""
    text = (ROOT / ".github/workflows/images.yml").read_text(encoding="utf-8")
    uses = re.findall(r"uses: (\S+)(.*)", text)
    assert uses
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", name) for name, _ in uses)
    assert all(re.fullmatch(r" # v\d+\.\d+\.\d+", remark) for _, remark in uses)


def test_no_expression_reaches_a_shell() -> None:
    """What GitHub fills in goes through the environment, so that no name of a branch becomes a command."""
    assert "${{" not in RUNS
    assert WORKFLOW["permissions"] == {"contents": "read", "packages": "write"}


def test_compose_names_the_image_by_a_variable_that_must_be_set() -> None:
    """Both services run the same image; no tag and no digest is a default."""
    services = COMPOSE["services"]
    assert services.keys() == {"cpu", "cuda"}
    for service in services.values():
        assert service["image"].startswith("${TORCHLOCK_IMAGE:?")
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert f"/{application.HOME}:mode=1777" in service["tmpfs"]


def test_compose_reserves_the_gpus() -> None:
    """For the CUDA service alone, as Docker Compose has it."""
    services = COMPOSE["services"]
    (device,) = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
    assert "deploy" not in services["cpu"]


def test_the_documented_digest_is_the_manifests() -> None:
    """The command in the file's head gives what `docker pull` wants: the digest of the committed bytes."""
    text = (ROOT / "docker/compose.yaml").read_text(encoding="utf-8")
    (command,) = re.findall(r"\$\((sha256sum < .*)\)$", text, re.MULTILINE)
    assert command == "sha256sum < lockfiles/$p/image/manifest.json | cut -d' ' -f1"


def test_the_example_stands_on_a_digest() -> None:
    """The image beneath is an argument without a default; nothing is installed that no lock names."""
    text = (ROOT / "docker/Dockerfile.example").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[:2] == ["ARG IMAGE", "FROM ${IMAGE}"]
    assert not any(line.startswith(("RUN", "USER", "ENTRYPOINT")) for line in lines)
