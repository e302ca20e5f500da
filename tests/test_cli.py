"""The commands as a person or a script calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jsonschema
import pytest

from mineru_daemon import __version__, results
from mineru_daemon.cli import main
from mineru_daemon.errors import EX_IOERR
from mineru_daemon.samples import paths

PDF, PNG = paths()


def call(*arguments, **environ):
    return subprocess.run(
        [sys.executable, "-m", "mineru_daemon", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environ,
        timeout=120,
    )


@pytest.fixture
def folders(tmp_path):
    return [
        f"--{name}={tmp_path / name}" for name in ("inbox", "outbox", "done", "failed", "spool")
    ]


def test_version_and_help_need_no_heavy_import():
    assert __version__ in call("--version").stdout
    code = (
        "import sys; sys.argv=['x','config'];\n"
        "from mineru_daemon import cli; cli.main(['config'])\n"
        "assert not {'numpy','onnxruntime','cv2','PIL'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_config_prints_each_value_and_where_it_came_from(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MINERU_QUEUE_DEPTH", "7")
    assert main(["config", "--settle-seconds", "4", "--recursive"]) == 0
    lines = {line.split(" = ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "7" in lines["queue_depth"]
    assert lines["queue_depth"].endswith("# MINERU_QUEUE_DEPTH")
    assert lines["settle_seconds"].endswith("# --settle-seconds")
    assert "true" in lines["recursive"]
    assert lines["max_pages"].endswith("# default")


@pytest.mark.parametrize(
    ("arguments", "environ", "words"),
    [
        (["run", "--queue-depth=none"], {}, "queue_depth"),
        (["run"], {"MINERU_QUEU_DEPTH": "1"}, "did you mean MINERU_QUEUE_DEPTH?"),
        (["run", "--config=/nonexistent.toml"], {}, "does not exist"),
        (["run", "--outbox=/proc/version"], {}, "outbox"),
        (["run", "--inbox=/proc/nothing/in"], {}, "cannot be created"),
    ],
)
def test_a_wrong_setting_ends_the_start_with_one_sentence_and_78(
    folders, arguments, environ, words
):
    done = call(arguments[0], *folders, *arguments[1:], **environ)
    assert done.returncode == 78
    (sentence,) = done.stderr.splitlines()
    assert words in sentence
    assert done.stdout == ""


def test_overlapping_folders_are_refused_at_start(tmp_path):
    done = call("run", f"--inbox={tmp_path / 'a'}", f"--outbox={tmp_path / 'a' / 'b'}")
    assert done.returncode == 78
    assert "lies inside inbox" in done.stderr


def test_an_unknown_option_is_a_usage_error():
    assert call("run", "--queue-dept=3").returncode == 2


def test_the_schema_is_json_schema(capsys):
    main(["schema"])
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["title"] == "mineru-daemon/result"


def test_parse_writes_json_and_markdown_and_keeps_subfolders(tmp_path):
    source = tmp_path / "in" / "sub"
    source.mkdir(parents=True)
    (source / "a.png").write_bytes(PNG.read_bytes())
    (source / ".hidden.png").write_bytes(PNG.read_bytes())
    out = tmp_path / "out"
    done = call("parse", tmp_path / "in", "--output-dir", out)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (out / "sub").iterdir()) == ["a.png.json", "a.png.md"]
    result = json.loads((out / "sub" / "a.png.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(results.json_schema()).validate(result)
    assert result["status"] == "success"


def test_parse_writes_the_content_list_into_a_folder_of_its_own(tmp_path):
    for _ in range(2):  # a second time over the first
        done = call("parse", PNG, "--output-dir", tmp_path, "--formats", "json,content_list")
        assert done.returncode == 0, done.stderr
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    name = PNG.name
    content_list = f"{name}.mineru/{name}_content_list.json"
    assert files[0] == f"{name}.json"
    assert files[-1] == content_list
    items = json.loads((tmp_path / content_list).read_text("utf-8"))
    pictures = [f"{name}.mineru/{item['img_path']}" for item in items if "img_path" in item]
    assert files[1:-1] == pictures
    assert "Order desk" in " ".join(item.get("text", "") for item in items)


def test_parse_prints_markdown_and_says_which_file_failed(tmp_path):
    bad = tmp_path / "bad.pdf"
    bad.write_text("no pdf")
    done = call("parse", PNG, bad)
    assert done.returncode == 1
    assert "Order desk" in done.stdout
    (sentence,) = done.stderr.splitlines()
    assert "bad.pdf" in sentence


def test_parse_of_a_missing_file_is_one_sentence(tmp_path):
    done = call("parse", tmp_path / "none.pdf")
    assert done.returncode == 1
    assert "none.pdf" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["parse", PNG, "--output-dir"], ["demo"], ["bench", "checkpoint"]],
    ids=lambda arguments: arguments[0],
)
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path, arguments):
    (tmp_path / "file").touch()
    done = call(*arguments, tmp_path / "file" / "out", XDG_CONFIG_HOME=str(tmp_path))
    assert done.returncode == EX_IOERR
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"mineru-daemon: {tmp_path / 'file'}/")
    assert "cannot be used: Not a directory; see to its folder" in sentence


def test_a_full_disk_behind_the_output_is_one_sentence():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mineru_daemon", "schema"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == EX_IOERR
    (sentence,) = done.stderr.splitlines()
    assert "The output cannot be used: No space left on device" in sentence


def test_parse_of_nothing_is_said_to_be_so(tmp_path):
    done = call("parse", tmp_path)
    assert done.returncode == 64
    assert "no document" in done.stderr


def test_status_of_no_daemon(folders):
    done = call("status", *folders)
    assert done.returncode == 3
    assert "No daemon has run" in done.stdout
    done = call("status", "--json", *folders)
    assert json.loads(done.stdout) == {"running": False}
