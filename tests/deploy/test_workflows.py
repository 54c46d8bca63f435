"""The workflows in .github, and the agreement of release, chart and documents."""

import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, rendered, tool

FOLDER = ROOT / ".github/workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yml"))}
RELEASE = WORKFLOWS["release"]["jobs"]
PYTHON_TOOLS = Path(sys.executable).parent
WORKSPACE = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
SLUG = WORKSPACE["repository"].removeprefix("https://github.com/")


def steps():
    """Yields the workflow, the job and each step."""
    for workflow, contents in WORKFLOWS.items():
        for job in contents["jobs"].values():
            for step in job["steps"]:
                yield workflow, job, step


def only_step(job, action):
    """Returns the only step of a job that uses an action."""
    (step,) = [each for each in RELEASE[job]["steps"] if each.get("uses", "").startswith(f"{action}@")]
    return step


def test_actionlint_accepts_workflows():
    # actionlint runs shellcheck on the scripts of the steps.
    result = tool(
        PYTHON_TOOLS / "actionlint",
        "--no-color",
        f"--shellcheck={PYTHON_TOOLS / 'shellcheck'}",
        *sorted(FOLDER.glob("*.yml")),
    )
    assert (result.returncode, result.stdout) == (0, ""), result.stderr


def test_zizmor_finds_no_weakness_in_workflows():
    result = tool(PYTHON_TOOLS / "zizmor", "--offline", "--no-progress", "--format", "plain", FOLDER)
    assert result.returncode == 0, result.stdout + result.stderr


def test_actions_and_containers_are_pinned_by_hash():
    used = [step["uses"] for _, _, step in steps() if "uses" in step]
    assert len(used) > 10
    for name in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name), name
    assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", RELEASE["wheel"]["container"])


def test_release_stores_no_secret_and_prints_no_token():
    text = (FOLDER / "release.yml").read_text()
    # The token of the run is the only one, and it reaches programs by environment or input.
    assert "secrets." not in text
    for _, _, step in steps():
        script = step.get("run", "")
        assert "github.token" not in script and not re.search(r"\b(echo|printf)\b.*TOKEN|set -x", script), script


def test_nothing_is_published_before_wheel_and_client_are_built():
    def waits_for(job):
        needed = RELEASE[job].get("needs", [])
        needed = [needed] if isinstance(needed, str) else needed
        return set(needed).union(*map(waits_for, needed))

    publishing = [name for name, job in RELEASE.items() if "write" in str(job["permissions"])]
    assert sorted(publishing) == ["chart", "github", "image", "pypi"]
    for job in publishing:
        assert {"versions", "wheel", "client"} <= waits_for(job), job


@pytest.mark.parametrize("device", RELEASE["image"]["strategy"]["matrix"]["device"])
def test_default_image_of_chart_is_one_that_a_release_publishes(device):
    values = {"${{ github.repository }}": SLUG, "${{ matrix.device }}": device}
    values["${{ needs.versions.outputs.version }}"] = WORKSPACE["version"]
    image = RELEASE["image"]["env"]["IMAGE"]
    for expression, value in values.items():
        image = image.replace(expression, value)
    push = only_step("image", "docker/build-push-action")["with"]
    assert (push["tags"], push["push"]) == ("${{ env.IMAGE }}", True)
    arguments = ("--set", f"gpu.enabled={str(device == 'cuda').lower()}")
    assert rendered("minimal", *arguments).server["image"] == image


def test_documents_name_the_published_chart():
    push = next(step["run"] for step in RELEASE["chart"]["steps"] if "helm push" in step.get("run", ""))
    registry = re.search(r'"(oci://\S+)"', push)[1].replace("$GITHUB_REPOSITORY_OWNER", SLUG.split("/")[0])
    guide = (ROOT / "docs/operations/deployment.md").read_text()
    assert f"{registry}/blip-serve" in guide


def notes(*arguments):
    """Returns the notes that helm prints after an installation."""
    result = tool("helm", "install", "shop", ROOT / "deploy/helm/blip-serve", "--dry-run=client", "--set", "auth.insecure=true", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.split("NOTES:")[1]


def test_notes_state_whether_the_image_is_a_released_one():
    version = WORKSPACE["version"]
    image = f"ghcr.io/{SLUG}:{version}-cpu"
    assert f"The pods run {image}, which release v{version} publishes." in notes()
    other = notes("--set", "image.repository=registry.example.com/blip")
    assert f"The pods run registry.example.com/blip:{version}-cpu, set by image.*, instead of" in other
