"""Settings from file, environment and command line, their precedence, and errors in them."""

import json
import os
import subprocess

from conftest import program


def run(*arguments, cwd=None, **variables):
    """Runs the program with additional environment variables."""
    environment = {**os.environ, **variables}
    return subprocess.run([program(), *arguments], capture_output=True, text=True, cwd=cwd, env=environment)


def test_config_prints_value_and_origin_of_settings(tmp_path):
    (tmp_path / "blip.yaml").write_text(
        "limits:\n  max_image_bytes: 1\n  max_question_bytes: 2\n  max_images_per_request: 3\n"
    )
    completed = run(
        "config",
        "--json",
        "--config",
        "blip.yaml",
        "--max-image-bytes",
        "5",
        cwd=tmp_path,
        BLIP_SERVE__LIMITS__MAX_QUESTION_BYTES="4",
        BLIP_SERVE__LIMITS__MAX_IMAGE_BYTES="4",
    )
    limits = json.loads(completed.stdout)["limits"]
    assert limits["max_image_bytes"] == {"value": 5, "origin": "flag --max-image-bytes"}
    assert limits["max_question_bytes"] == {
        "value": 4,
        "origin": "environment BLIP_SERVE__LIMITS__MAX_QUESTION_BYTES",
    }
    assert limits["max_images_per_request"] == {"value": 3, "origin": "file blip.yaml"}
    assert limits["max_questions_per_request"]["origin"] == "default"


def test_config_output_is_equivalent_settings_file(tmp_path):
    printed = run("config", "--fetch-allow-ports", "8080,8443", "--fetch=false").stdout
    (tmp_path / "again.toml").write_text(printed)
    again = run("config", "--config", str(tmp_path / "again.toml")).stdout
    values = [line.split("  #")[0] for line in printed.splitlines()]
    assert values == [line.split("  #")[0] for line in again.splitlines()]
    assert "allow_ports = [8080, 8443]" in values


def test_serve_reads_settings_file(start, demo_image, tmp_path):
    file = tmp_path / "blip.toml"
    file.write_text("[limits]\nmax_question_bytes = 10\n")
    server = start("--config", str(file))
    responses = list(server.client.ask([(demo_image, ["how many?", "how many things are there?"])]))
    failed = {response.question_index for response in responses if response.HasField("error")}
    assert failed == {1}


def test_invalid_setting_prints_one_line_and_exits_2(tmp_path):
    file = tmp_path / "blip.toml"
    file.write_text("[fetch]\nmax_byts = 3\n")
    for completed, message in [
        (run("serve", "--config", str(file)), "unknown setting fetch.max_byts; did you mean fetch.max_bytes?"),
        (run("serve", BLIP_SERVE__FETCH__ENABLE="true"), "did you mean BLIP_SERVE__FETCH__ENABLED?"),
        (run("config", BLIP_SERVE__FETCH__MAX_BYTES="lots"), 'invalid BLIP_SERVE__FETCH__MAX_BYTES: "lots"'),
        (run("serve", BLIP_SERVE__CONFIG=str(tmp_path / "none.toml")), "No such file"),
    ]:
        assert (completed.returncode, completed.stdout) == (2, ""), completed
        assert message in completed.stderr and completed.stderr.count("\n") == 1, completed.stderr
