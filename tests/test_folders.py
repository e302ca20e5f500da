"""Folders are made, or refused with one sentence each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mineru_daemon.errors import ConfigError
from mineru_daemon.folders import prepare_folders


def test_missing_folders_are_made(make_settings, tmp_path):
    settings = make_settings().model_copy(update={"outbox": tmp_path / "x" / "y"})
    prepare_folders(settings)
    assert settings.outbox.is_dir()


def test_unusable_folders_are_each_told_in_a_sentence(make_settings, tmp_path):
    (tmp_path / "file").write_text("")
    settings = make_settings().model_copy(
        update={"outbox": tmp_path / "file", "done": tmp_path / "file" / "below"}
    )
    with pytest.raises(ConfigError) as caught:
        prepare_folders(settings)
    first, second = str(caught.value).splitlines()
    assert "outbox" in first
    assert "is not a folder" in first
    assert "done" in second
    assert "cannot be created" in second


def test_a_folder_that_cannot_be_written_is_refused(settings):
    settings.outbox.chmod(0o555)
    for folder in settings.outbox.parents:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setuid(65534)  # root may write anywhere, nobody may not
        try:
            prepare_folders(settings)
        except ConfigError as error:
            told = f"The outbox folder {settings.outbox} cannot be written by user id" in str(error)
            os._exit(0 if told else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
