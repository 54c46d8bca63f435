"""The packaged chart is complete, and its README agrees with its values."""

import re
import tarfile

import pytest
import yaml
from conftest import CHART, HERE, VALUES, template, tool


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The chart, packaged by helm and unpacked elsewhere."""
    folder = tmp_path_factory.mktemp("chart")
    result = tool("helm", "package", CHART, "--destination", folder)
    assert result.returncode == 0, result.stderr
    # helm warns about links that leave the chart.
    assert "symbolic link" not in result.stdout + result.stderr
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as package:
        package.extractall(folder, filter="data")
    return folder / "blip-serve"


def test_package_contains_every_file_of_chart(unpacked):
    def contents(chart):
        files = [path for path in chart.rglob("*") if path.is_file()]
        # helm rewrites Chart.yaml.
        return {
            str(path.relative_to(chart)): path.read_bytes() for path in files if path.name != "Chart.yaml"
        }

    assert not [path for path in CHART.rglob("*") if path.is_symlink()]
    assert contents(unpacked) == contents(CHART)


@pytest.mark.parametrize("values", VALUES)
def test_packaged_chart_renders_same_objects(values, unpacked):
    arguments = ("--values", HERE / f"values/{values}.yaml")
    packaged = template(*arguments, chart=unpacked)
    assert packaged.returncode == 0, packaged.stderr
    assert packaged.stdout == template(*arguments).stdout


def table():
    """Yields (value, default) of each row of the README."""
    text = (CHART / "README.md").read_text()
    for names, default in re.findall(r"^\| (`[^|]+`) \| `([^|]+)` \|", text, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", names):
            yield name, yaml.safe_load(default)


VALUES_FILE = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize("name, default", list(table()))
def test_readme_states_defaults_of_values(name, default):
    value = VALUES_FILE
    for part in name.split("."):
        value = value[part]
    assert value == default


def test_readme_lists_every_section_of_values():
    assert {name.split(".")[0] for name, _ in table()} == set(VALUES_FILE)


def test_helm_shows_readme(unpacked):
    result = tool("helm", "show", "readme", unpacked)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == (CHART / "README.md").read_text().strip()


def test_readme_links_are_absolute():
    # helm and registries show the text outside of the repository.
    links = re.findall(r"\]\(([^)]+)\)", (CHART / "README.md").read_text())
    assert links and all(link.startswith("https://") for link in links)
