"""The program accepts the configuration, the keys and the probes of the chart."""

import json
import tomllib
import urllib.request

import pytest
from conftest import VALUES, program, rendered, tool


@pytest.mark.parametrize("values", VALUES)
def test_program_reads_rendered_configuration(values, tmp_path):
    config = rendered(values).config
    file = tmp_path / "blip-serve.toml"
    file.write_text(config)
    result = tool(program(), "config", "--config", file, "--json")
    assert result.returncode == 0, result.stderr
    settings = json.loads(result.stdout)
    for section, entries in tomllib.loads(config).items():
        for name, value in entries.items():
            setting = settings[section][name]
            # A single text is equivalent to a list of one.
            value = [value] if isinstance(setting["value"], list) and isinstance(value, str) else value
            # The origin shows that the value comes from the file.
            is_from_file = "blip-serve.toml" in setting["origin"]
            assert (setting["value"], is_from_file) == (value, True), (section, name, setting)


def test_program_reads_old_names_in_chart_values(tmp_path):
    objects = rendered("minimal", "--set", "config.fetch.off=true,config.scheduler.slo_p95_ms=7")
    (tmp_path / "blip-serve.toml").write_text(objects.config)
    result = tool(program(), "config", "--config", tmp_path / "blip-serve.toml", "--json")
    assert result.returncode == 0, result.stderr
    settings = json.loads(result.stdout)
    assert settings["fetch"]["enabled"]["value"] is False
    assert settings["scheduler"]["target_p95_ms"]["value"] == 7
    assert result.stderr.count("setting renamed") == 2
    assert objects.one("NetworkPolicy")["spec"]["egress"] == []


def test_helm_test_reaches_server_with_rendered_keys(serve, tmp_path):
    objects = rendered("gpu")
    keys = tmp_path / "keys.toml"
    keys.write_text(objects.one("Secret")["stringData"]["keys.toml"])
    address, *_ = serve("--auth-keys-file", str(keys))
    (container,) = objects.of("Pod", "-test-ask")["spec"]["containers"]
    arguments = list(container["args"])
    arguments[arguments.index("--server") + 1] = address
    assert [each["name"] for each in container["env"]] == ["BLIP_SERVE__API_KEY"]
    result = tool("env", "BLIP_SERVE__API_KEY=battery-staple-in-plain-text", program(), *arguments)
    assert result.returncode == 0, result.stderr
    assert "-> 5 " in result.stdout
    # Without a key, the hook must fail.
    assert tool("env", "-u", "BLIP_SERVE__API_KEY", program(), *arguments).returncode != 0


def test_program_answers_probe_paths(serve):
    *_, metrics = serve()
    server = rendered("minimal").server
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        with urllib.request.urlopen(metrics + server[probe]["httpGet"]["path"], timeout=10) as response:
            assert response.status == 200
