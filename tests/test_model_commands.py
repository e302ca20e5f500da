"""`mineru-daemon model …` as a person calls it, with a hub on this machine."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import hub_server
import pytest
from checkpoint_building import SMALL
from hub_server import COMMIT, NAME, Hub
from tiny_mineru import CHECKPOINT

from mineru_daemon import cli
from mineru_daemon.bench import random_checkpoint
from mineru_daemon.engines.mineru import folder
from mineru_daemon.errors import ModelError
from mineru_daemon.storage import digest

WEIGHTS = "model.safetensors"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Of a user without settings or caches, whose home is `tmp_path / "home"`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MINERU_", "HF_", "MODELSCOPE_"))
    }
    return kept | {"HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}


class Done(NamedTuple):
    """What became of a command."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def model(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call `mineru-daemon model …`; keywords are variables of the environment."""

    def call(*arguments: object, **more: str) -> Done:
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(environ | more)
        try:
            code = cli.main(["model", *map(str, arguments)])
        except SystemExit as exit:
            code = int(str(exit.code))
        finally:
            os.environ.clear()
            os.environ.update(before)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture
def process(environ: dict[str, str]) -> Callable[..., Done]:
    """The same in a process of its own."""

    def call(*arguments: object, **more: str) -> Done:
        return run(command(*arguments), environ | more)

    return call


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The same, without waiting for the end."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: object, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ | more,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.serving(CHECKPOINT) as served:
        yield served


def run(words: list[str], environ: dict[str, str]) -> Done:
    done = subprocess.run(words, capture_output=True, text=True, env=environ, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "mineru_daemon", "model", *map(str, arguments)]


def sentence(done: Done, code: int) -> str:
    """The one line that a failed command says."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("mineru-daemon: ")
    return line


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# --- export -------------------------------------------------------------------


def test_a_checkpoint_becomes_a_model_folder_that_loads(model, tmp_path):
    out = tmp_path / "out"
    done = model("export", CHECKPOINT, out, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, *verification = done.stdout.splitlines()
    assert first.startswith(f"{out}: {CHECKPOINT.name}, fp32, ")
    assert verification
    manifest = folder.verify(out).manifest
    assert manifest.precision == "fp32"
    assert manifest.architecture == "Qwen2VLForConditionalGeneration"
    assert manifest.source.weights_sha256 == {WEIGHTS: digest(CHECKPOINT / WEIGHTS)}
    assert manifest.verification
    assert (out / "tokenizer.json").read_bytes() == (CHECKPOINT / "tokenizer.json").read_bytes()
    assert names(tmp_path) == ["out"]


def test_the_call_of_the_founding_article_downloads_and_exports(process, hub, tmp_path):
    out = tmp_path / "m"
    done = process(
        *("export", "--model-name", NAME, "--output-dir", out, "--precision", "fp32"),
        HF_ENDPOINT=hub.endpoint,
    )
    assert done.returncode == 0, done.stderr
    assert folder.verify(out).manifest.source.name == NAME


def test_the_call_of_the_founding_article_takes_a_folder(model, tmp_path):
    arguments = ("--model-name", CHECKPOINT, "--output-dir", tmp_path / "m", "--precision", "fp32")
    assert model("export", *arguments).returncode == 0
    folder.verify(tmp_path / "m")


def test_without_a_place_the_model_goes_where_the_daemon_looks_for_it(model, tmp_path):
    done = model("export", CHECKPOINT, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    folder.load(tmp_path / "home" / "mineru" / "model")
    assert str(tmp_path / "home" / "mineru" / "model") in model("info").stdout


def test_the_place_can_be_a_setting(model, tmp_path):
    (tmp_path / "config.toml").write_text(f'model = "{tmp_path / "elsewhere"}"\n')
    done = model("export", CHECKPOINT, "--precision=fp32", f"--config={tmp_path / 'config.toml'}")
    assert done.returncode == 0, done.stderr
    folder.load(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--output-dir=x"],
        ["a", "b", "--output-dir=c"],
        ["--model-name=a", "b", "c"],
        ["a", "b", "--precision=int3"],
    ],
)
def test_a_call_that_says_too_much_or_too_little_is_a_usage_error(model, arguments):
    done = model("export", *arguments)
    assert done.returncode == 2
    assert "error:" in done.stderr


def test_a_model_is_replaced_only_with_force(model, tmp_path):
    arguments = ("export", CHECKPOINT, tmp_path / "out", "--precision", "fp32")
    assert model(*arguments).returncode == 0
    before = (tmp_path / "out" / "manifest.json").stat().st_ino
    assert "give --force" in sentence(model(*arguments), 65)
    assert (tmp_path / "out" / "manifest.json").stat().st_ino == before
    assert model(*arguments, "--force").returncode == 0
    assert (tmp_path / "out" / "manifest.json").stat().st_ino != before
    assert names(tmp_path) == ["out"]


def test_a_wrong_checkpoint_is_one_sentence_and_leaves_nothing(model, tmp_path):
    broken = Path(shutil.copytree(CHECKPOINT, tmp_path / "broken"))
    with (broken / WEIGHTS).open("r+b") as stream:
        stream.truncate(1000)
    said = sentence(model("export", broken, tmp_path / "out"), 65)
    assert f"{broken / WEIGHTS} is cut off" in said
    assert names(tmp_path) == ["broken"]


@pytest.mark.parametrize("name", ["/nowhere/checkpoint", "./owner/name", "checkpoint"])
def test_what_is_no_name_of_a_hub_is_a_folder(model, tmp_path, name):
    assert "does not exist" in sentence(model("export", name, tmp_path / "out"), 65)


def test_a_place_that_cannot_be_written_is_one_sentence(model):
    assert "/proc/nothing" in sentence(model("export", CHECKPOINT, "/proc/nothing/out"), 74)


def test_a_missing_package_is_named_before_anything_is_downloaded(environ, hub, tmp_path):
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from mineru_daemon.cli import main\n"
        f"sys.exit(main(['model', 'pull', '--output-dir', {str(tmp_path / 'out')!r}]))"
    )
    done = run([sys.executable, "-c", code], environ | {"HF_ENDPOINT": hub.endpoint})
    assert "pip install 'mineru-daemon[export]'" in sentence(done, 65)
    assert hub.requests == []


# --- stopped exports ----------------------------------------------------------


def workplaces(parent: Path) -> list[Path]:
    """Folders in which models are made."""
    return list(parent.glob(".mineru-export-*"))


@pytest.mark.parametrize("delay", [0.0, 0.2, 0.5])
def test_a_killed_export_leaves_nothing_that_loads_and_the_next_one_works(
    model, start, tmp_path, delay
):
    out = tmp_path / "out"
    started = start("export", CHECKPOINT, out, "--precision", "fp32")
    wait_for(lambda: workplaces(tmp_path) or started.poll() is not None)
    time.sleep(delay)
    started.kill()
    started.wait()
    for path in workplaces(tmp_path):
        with pytest.raises(ModelError):
            folder.load(path)
    if not out.exists():
        with pytest.raises(ModelError, match="does not exist"):
            folder.load(out)
    done = model("export", CHECKPOINT, out, "--precision", "fp32", "--force")
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == ["out"]
    folder.verify(out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_export_clears_up_and_says_so(start, tmp_path, number):
    started = start("export", CHECKPOINT, tmp_path / "out", "--precision", "fp32")
    wait_for(lambda: workplaces(tmp_path))
    started.send_signal(number)
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 128 + number
    assert said == "mineru-daemon: The export was stopped.\n"
    assert names(tmp_path) == []


# --- pull ---------------------------------------------------------------------


def test_pull_downloads_exports_and_removes_the_checkpoint(model, hub, tmp_path):
    done = model("pull", "--precision", "fp32", HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    out = tmp_path / "home" / "mineru" / "model"
    source = folder.verify(out).manifest.source
    assert (source.name, source.revision) == (NAME, COMMIT)
    assert source.weights_sha256 == {WEIGHTS: digest(CHECKPOINT / WEIGHTS)}
    assert names(out.parent) == ["model"]


def test_only_files_that_an_export_reads_are_fetched(model, tmp_path):
    served = Path(shutil.copytree(CHECKPOINT, tmp_path / "served"))
    for name in ("README.md", "pytorch_model.bin", "model.onnx", "vllm_logits.py"):
        (served / name).write_text("not needed")
    with hub_server.serving(served) as hub:
        done = model("pull", NAME, tmp_path / "out", "--precision=fp32", HF_ENDPOINT=hub.endpoint)
        assert done.returncode == 0, done.stderr
        fetched = {name for name in hub.names() if hub.downloads(name)}
    assert {"config.json", "tokenizer.json", WEIGHTS} <= fetched
    assert not fetched & {"README.md", "pytorch_model.bin", "model.onnx", "vllm_logits.py"}


def test_a_checkpoint_that_was_kept_is_not_fetched_again(model, hub, tmp_path):
    arguments = ("pull", NAME, tmp_path / "out", "--precision=fp32", "--keep-checkpoint", "--force")
    for _ in range(2):
        assert model(*arguments, HF_ENDPOINT=hub.endpoint).returncode == 0
    assert len(hub.downloads(WEIGHTS)) == 1
    assert names(tmp_path / "checkpoints") == [NAME.replace("/", "--")]


def test_a_revision_can_be_asked_for(model, hub, tmp_path):
    hub.revisions = {"v2", COMMIT}
    arguments = ("pull", "--revision", "v2", "--output-dir", tmp_path / "out", "--precision=fp32")
    assert model(*arguments, HF_ENDPOINT=hub.endpoint).returncode == 0
    assert folder.load(tmp_path / "out").manifest.source.revision == COMMIT


def test_a_model_that_is_there_already_is_told_before_the_download(model, hub, tmp_path):
    model("export", CHECKPOINT, tmp_path / "out", "--precision", "fp32")
    done = model("pull", NAME, tmp_path / "out", HF_ENDPOINT=hub.endpoint)
    assert "give --force" in sentence(done, 65)
    assert hub.requests == []


def test_a_damaged_download_is_seen(model, hub, tmp_path, environ):
    arguments = ("pull", NAME, tmp_path / "out", "--precision=fp32")
    assert model(*arguments, "--keep-checkpoint", HF_ENDPOINT=hub.endpoint).returncode == 0
    weights = tmp_path / "checkpoints" / NAME.replace("/", "--") / WEIGHTS
    before = weights.stat()
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    said = sentence(model(*arguments, "--force", HF_ENDPOINT=hub.endpoint), 65)
    assert f"{weights} is not what the hub sent" in said


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of which several chunks of the hub's client are made."""
    path = tmp_path_factory.mktemp("large") / "checkpoint"
    random_checkpoint.write(path, shapes=replace(SMALL, vocabulary=110_000))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_download_ends_at_once_and_goes_on_the_next_time(start, large, tmp_path, number):
    with hub_server.serving(large) as hub:
        hub.pause = 0.01
        arguments = ("pull", NAME, tmp_path / "out", "--keep-checkpoint")
        started = start(*arguments, HF_ENDPOINT=hub.endpoint)
        below = tmp_path / "checkpoints"
        wait_for(lambda: any(one.stat().st_size > 10_000_000 for one in below.rglob("*.part")))
        started.send_signal(number)
        said = started.communicate(timeout=60)[1]
        if number == signal.SIGKILL:
            assert started.returncode == -signal.SIGKILL
        else:
            assert started.returncode == 128 + number
            assert "was stopped; run this again, it goes on" in said
        assert not (tmp_path / "out").exists()

        hub.pause = 0
        start(*arguments, HF_ENDPOINT=hub.endpoint).communicate(timeout=60)
        first, *later = hub.downloads(WEIGHTS)
        assert first == ""
        assert later
        assert all(ranges.startswith("bytes=") for ranges in later)
    (fetched,) = below.glob(f"*/{WEIGHTS}")
    assert digest(fetched) == digest(large / WEIGHTS)


def test_without_a_network_there_is_one_sentence(model, tmp_path):
    said = sentence(model("pull", NAME, tmp_path / "out"), 69)
    assert "http://127.0.0.1:9 cannot be reached" in said
    assert "HF_ENDPOINT" in said


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((404, "RepoNotFound"), "knows no public model"),
        ((404, "RevisionNotFound"), "has no revision v9"),
        ((403, "GatedRepo"), "accept them on its page and set HF_TOKEN"),
        ((503, ""), "fails with status 503"),
        ((401, ""), "401"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(model, hub, tmp_path, refusal, words):
    hub.refusal = refusal
    arguments = ("pull", NAME, tmp_path / "out", "--revision", "v9")
    said = sentence(model(*arguments, HF_ENDPOINT=hub.endpoint), 69)
    assert words in said
    assert NAME in said


def test_a_checkpoint_of_another_model_is_not_exported(model, tmp_path):
    served = Path(shutil.copytree(CHECKPOINT, tmp_path / "served"))
    config = json.loads((served / "config.json").read_text())
    (served / "config.json").write_text(json.dumps(config | {"model_type": "internvl_chat"}))
    with hub_server.serving(served) as hub:
        done = model("pull", NAME, tmp_path / "out", HF_ENDPOINT=hub.endpoint)
    assert "internvl_chat" in sentence(done, 65)


@pytest.mark.parametrize("name", ["MinerU2.5", "a/b/c", "../x", "https://huggingface.co/a/b"])
def test_pull_takes_names_of_a_hub_only(model, name):
    done = model("pull", name)
    assert done.returncode == 2
    assert "OWNER/NAME" in done.stderr


def test_pull_from_modelscope(process, hub, tmp_path):
    done = process(
        *("pull", "--source", "modelscope", "--output-dir", tmp_path / "out", "--precision=fp32"),
        MODELSCOPE_ENDPOINT=hub.endpoint,
        MODELSCOPE_DOMAIN=hub.endpoint,
    )
    assert done.returncode == 0, done.stderr
    source = folder.verify(tmp_path / "out").manifest.source
    assert source.name == "OpenDataLab/MinerU2.5-2509-1.2B"
    assert source.revision is None


@pytest.mark.parametrize("package", ["huggingface_hub", "modelscope"])
def test_a_missing_hub_client_says_what_to_install(environ, tmp_path, package):
    source = package.removesuffix("_hub")
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from mineru_daemon.cli import main\n"
        f"sys.exit(main(['model', 'pull', '--source', {source!r}, "
        f"'--output-dir', {str(tmp_path / 'out')!r}]))"
    )
    said = sentence(run([sys.executable, "-c", code], environ), 69)
    assert package in said
    assert "pip install" in said


# --- verify, info -------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    subprocess.run(command("export", CHECKPOINT, out, "--precision", "fp32"), check=True)
    return out


def test_verify_says_that_all_is_well(model, exported):
    done = model("verify", exported)
    assert done.returncode == 0
    count = len(names(exported)) - 1
    assert done.stdout == f"{exported}: all {count} files are as they were exported.\n"


def test_verify_names_the_file_at_fault(model, exported, tmp_path):
    damaged = Path(shutil.copytree(exported, tmp_path / "damaged"))
    content = bytearray((damaged / "embedding.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "embedding.bin").write_bytes(content)
    assert model("info", damaged).returncode == 0
    said = sentence(model("verify", damaged), 65)
    assert f"The content of {damaged / 'embedding.bin'} is not what was exported" in said


def test_verify_and_info_of_no_model_are_one_sentence(model, tmp_path):
    for name in ("verify", "info"):
        assert "does not exist" in sentence(model(name), 65)
        assert "is a Hugging Face checkpoint" in sentence(model(name, CHECKPOINT), 65)


def test_info_tells_what_the_folder_holds(model, exported):
    done = model("info", exported)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{exported}: {CHECKPOINT.name}, fp32, ")
    for words in ("Qwen2VLForConditionalGeneration", "not known", "vision.onnx", "embedding.bin"):
        assert words in done.stdout


def test_info_for_programs_is_the_manifest(model, exported):
    done = model("info", exported, "--json")
    assert json.loads(done.stdout) == json.loads((exported / "manifest.json").read_text())


# --- the terminal -------------------------------------------------------------


def test_progress_is_shown_on_a_terminal(environ, exported):
    shown, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    process = subprocess.Popen(command("verify", exported), stderr=terminal, env=environ)
    os.close(terminal)
    text = b""
    while True:
        try:
            text += os.read(shown, 1 << 16)
        except OSError:  # the terminal's last user is gone
            break
    assert process.wait() == 0
    os.close(shown)
    assert b"Verifying:   0%" in text
