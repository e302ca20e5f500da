"""Settings: where they come from, what is refused, and that the example file is true."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mineru_daemon import configuration as module
from mineru_daemon.configuration import load, merge_reloadable
from mineru_daemon.errors import EX_CONFIG, ConfigError
from mineru_daemon.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


def test_the_command_line_beats_the_environment_which_beats_the_file(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text("queue_depth = 5\nmax_pages = 7\nlog_level = 'error'\n")
    loaded = load(
        {"log_level": "debug"}, config, {"MINERU_MAX_PAGES": "9", "MINERU_LOG_LEVEL": "warning"}
    )
    assert loaded.settings.queue_depth == 5
    assert loaded.settings.max_pages == 9
    assert loaded.settings.log_level == "debug"
    assert loaded.origins["queue_depth"] == str(config)
    assert loaded.origins["max_pages"] == "MINERU_MAX_PAGES"
    assert loaded.origins["log_level"] == "--log-level"
    assert loaded.origins["inbox"] == "default"


def test_the_users_file_comes_before_the_systems(tmp_path, monkeypatch):
    own = tmp_path / "mineru" / "config.toml"
    own.parent.mkdir()
    own.write_text("queue_depth = 4\n")
    assert module.config_path(None, {"XDG_CONFIG_HOME": str(tmp_path)}) == own
    named = tmp_path / "named.toml"
    named.write_text("")
    assert module.config_path(None, {"MINERU_CONFIG": str(named)}) == named
    assert module.config_path(own, {"MINERU_CONFIG": str(named)}) == own


@pytest.mark.parametrize(
    ("toml", "environ", "words"),
    [
        ("queue_dept = 3", {}, ["queue_dept", "did you mean queue_depth?", "config.toml"]),
        ("", {"MINERU_QUEUE_DEPT": "3"}, ["MINERU_QUEUE_DEPT", "MINERU_QUEUE_DEPTH?"]),
        ("queue_depth = 0", {}, ["queue_depth = 0", "config.toml"]),
        ("", {"MINERU_SETTLE_SECONDS": "soon"}, ["settle_seconds", "MINERU_SETTLE_SECONDS"]),
        ("formats = ['markdown']", {}, ["formats must contain json"]),
        ("queue_depth = ", {}, ["not valid TOML"]),
        ("inbox = ''", {}, ["inbox", "empty"]),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(tmp_path, toml, environ, words):
    config = tmp_path / "config.toml"
    config.write_text(toml)
    with pytest.raises(ConfigError) as caught:
        load({}, config, environ)
    assert caught.value.exit_code == EX_CONFIG
    (sentence,) = str(caught.value).splitlines()
    for word in words:
        assert word in sentence
    assert sentence.endswith((".", "?"))


def test_every_fault_gets_a_sentence_of_its_own():
    with pytest.raises(ConfigError) as caught:
        load({"queue_depth": "x"}, None, {"MINERU_WATCH": "maybe", "MINERU_FOO_BAR": "1"})
    assert len(str(caught.value).splitlines()) == 3


def test_a_named_file_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load({}, tmp_path / "none.toml", {})


@pytest.mark.parametrize("loop", ["mineru", "mineru/config.toml"])
def test_a_file_that_cannot_be_looked_at_is_told_and_not_passed_over(tmp_path, loop):
    (tmp_path / loop).parent.mkdir(exist_ok=True)
    (tmp_path / loop).symlink_to(tmp_path / loop)  # rights mean nothing to root, a loop does
    own = {"XDG_CONFIG_HOME": str(tmp_path)}
    for config, environ in ((None, own), (tmp_path / "mineru" / "config.toml", {})):
        with pytest.raises(ConfigError, match=r"mineru/config\.toml cannot be read: Too many"):
            load({}, config, environ)


def test_a_file_that_the_user_may_not_look_at_is_one_sentence(tmp_path):
    folder = tmp_path / "mineru"
    folder.mkdir()
    (folder / "config.toml").touch()
    folder.chmod(0)
    command = [sys.executable, "-m", "mineru_daemon", "config"]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    environ = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    folder.chmod(0o700)
    assert done.returncode == EX_CONFIG
    (sentence,) = done.stderr.splitlines()
    assert "mineru/config.toml cannot be read: Permission denied; see to the rights" in sentence


def test_a_user_without_a_home_is_told_to_write_paths_out(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for an unknown user
    with pytest.raises(ConfigError, match=r"inbox .* write it out"):
        load({}, None, {})


def test_variables_of_mineru_itself_are_passed_over():
    load({}, None, {"MINERU_MODEL_SOURCE": "modelscope", "XDG_CONFIG_HOME": "/nonexistent"})


@pytest.mark.parametrize(
    ("inner", "outer"), [("outbox", "inbox"), ("spool", "done"), ("inbox", "failed")]
)
def test_a_folder_inside_another_is_refused(tmp_path, inner, outer):
    with pytest.raises(ConfigError, match=rf"{inner} \(.*\) lies inside {outer}"):
        load({outer: tmp_path / "x", inner: tmp_path / "x" / "y"}, None, {})


def test_the_same_folder_twice_is_refused_even_through_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="inbox and outbox are the same"):
        load({"inbox": tmp_path / "real", "outbox": tmp_path / "link"}, None, {})


def test_names_that_only_begin_alike_are_not_nested(tmp_path):
    load({"inbox": tmp_path / "in", "outbox": tmp_path / "in-out"}, None, {})


def test_lists_may_be_written_with_commas():
    loaded = load({"formats": "json"}, None, {"MINERU_IGNORE": "*.bak, draft-*"})
    assert loaded.settings.ignore == ["*.bak", "draft-*"]
    assert loaded.settings.formats == ["json"]


def test_folders_are_absolute_and_know_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({}, None, {}).settings.inbox == tmp_path / "mineru" / "inbox"
    assert load({}, None, {}).settings.spool == tmp_path / "mineru" / ".spool"


def test_the_example_file_is_what_the_settings_say():
    assert (ROOT / "config.example.toml").read_text("utf-8") == module.example_toml(), (
        "run: mineru-daemon config --example > config.example.toml"
    )


def test_the_example_file_holds_every_setting_with_its_default(tmp_path):
    lines = module.example_toml().splitlines()
    uncommented = [line.removeprefix("# ") for line in lines if " = " in line and "# " in line]
    values = tomllib.loads("\n".join(uncommented))
    assert set(values) == set(Settings.model_fields)
    config = tmp_path / "config.toml"
    config.write_text("\n".join(uncommented))
    assert load({}, config, {}).settings == load({}, None, {}).settings


def test_reloading_takes_what_can_change_and_names_what_cannot(make_settings):
    running = make_settings()
    fresh = make_settings(settle_seconds=9, queue_depth=7)
    merged, taken, left = merge_reloadable(running, fresh)
    assert merged.settle_seconds == 9
    assert merged.queue_depth == running.queue_depth
    assert (taken, left) == (["settle_seconds"], ["queue_depth"])
