"""The commands. Each is a few lines here; the work is done in the modules they name.

Heavy modules are imported by the commands that need them, and only after the thread
limits are set: NumPy starts its threads when it is loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from mineru_daemon import __version__, configuration, cpu, log
from mineru_daemon.configuration import Loaded, toml_value
from mineru_daemon.errors import EX_IOERR, EX_SOFTWARE, MineruError
from mineru_daemon.printable import printable
from mineru_daemon.settings import Settings

EXIT_NOT_RUNNING = 3
"""Of `status`: what LSB init scripts and `systemctl status` answer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(argv)
    try:
        return int(options.command(options))
    except MineruError as error:
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return EX_SOFTWARE
    except OSError as error:
        what = "The output" if error.filename is None else os.fsdecode(error.filename)
        _say(
            f"{what} cannot be used: {error.strerror}; see to its folder, its rights and the room "
            "on its disk, or name another place."
        )
        return EX_IOERR
    except KeyboardInterrupt:
        return 130


def _say(sentences: str) -> None:
    for sentence in sentences.splitlines():
        print(f"{log.mark('error')}mineru-daemon: {printable(sentence)}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mineru-daemon",
        description="Turns documents dropped into a folder into JSON and Markdown, on the CPU.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, with_settings: bool = True) -> Any:
        one = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        one.set_defaults(command=run)
        if with_settings:
            _add_settings(one)
        return one

    command("run", _run, "Serve the inbox in the foreground, until SIGTERM or Ctrl-C.")

    parse = command("parse", _parse, "Read files or folders directly.")
    parse.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file or folder")
    parse.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="write DIR/NAME.json and DIR/NAME.md; without, Markdown goes to standard output",
    )

    status = command("status", _status, "Tell what the daemon does; exit code 3 if it is down.")
    status.add_argument("--json", action="store_true", help="for programs")

    config = command("config", _config, "Print the effective settings and their origins.")
    config.add_argument(
        "--example", action="store_true", help="print a commented file with all defaults instead"
    )

    command("schema", _schema, "Print the JSON Schema of results.", with_settings=False)

    install = command("install", _install, "Set the systemd service up.", with_settings=False)
    from mineru_daemon import install as installer

    installer.add_arguments(install)

    from mineru_daemon import bench

    bench.add_arguments(command("bench", None, "Measure it by real processes.", False))

    from mineru_daemon import model

    model.add_arguments(command("model", None, "Make and check the folder of MinerU2.5.", False))

    demo = command("demo", _demo, "Try it on two samples, in folders below DIR.", False)
    demo.add_argument("dir", nargs="?", type=Path, default=Path("mineru-demo"), metavar="DIR")
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """An option for every setting."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file with settings", dest="config_file"
    )
    group = parser.add_argument_group("settings", "see config.example.toml; these come first")
    for name, field in Settings.model_fields.items():
        option = "--" + name.replace("_", "-")
        kind: Any = field.annotation
        shared: dict[str, Any] = {
            "dest": f"setting_{name}",
            "default": argparse.SUPPRESS,
            "help": (field.description or "").replace("%", "%%"),
        }
        if kind is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, **shared)
        else:
            choices = [str(one) for one in get_args(kind)] if "Literal" in str(kind) else []
            metavar = "|".join(choices) if choices and name != "formats" else "VALUE"
            group.add_argument(option, metavar=metavar, **shared)


def _load(options: argparse.Namespace) -> Loaded:
    prefix = "setting_"
    overrides = {
        key.removeprefix(prefix): value
        for key, value in vars(options).items()
        if key.startswith(prefix)
    }
    return configuration.load(overrides, options.config_file)


def _limit_threads(chosen: Settings) -> None:
    cpu.limit_libraries(
        cpu.granted_threads(chosen.intra_op_num_threads, chosen.inter_op_num_threads)
    )


def _run(options: argparse.Namespace) -> int:
    chosen = _load(options).settings
    log.configure(chosen.log_level, chosen.log_format)
    _limit_threads(chosen)
    from mineru_daemon.daemon import Daemon

    return Daemon(chosen, lambda: _load(options).settings).run()


def _parse(options: argparse.Namespace) -> int:
    chosen = _load(options).settings
    log.configure("warning" if chosen.log_level == "info" else chosen.log_level, chosen.log_format)
    _limit_threads(chosen)
    from mineru_daemon import parse

    return parse.run(chosen, options.files, options.output_dir)


def _status(options: argparse.Namespace) -> int:
    from mineru_daemon import status

    spool = _load(options).settings.spool
    try:
        state = status.read(spool)
    except OSError as error:
        raise MineruError(
            f"The status of the daemon in {spool} cannot be read: {error.strerror}."
        ) from error
    if options.json:
        print(json.dumps(state or {"running": False}, indent=2))
    else:
        print(status.describe(state, spool))
    return 0 if state and state["running"] else EXIT_NOT_RUNNING


def _config(options: argparse.Namespace) -> int:
    if options.example:
        print(configuration.example_toml(), end="")
        return 0
    loaded = _load(options)
    values = loaded.settings.model_dump(mode="json")
    width = max(len(f"{name} = {toml_value(value)}") for name, value in values.items())
    for name, value in values.items():
        line = f"{name} = {toml_value(value)}"
        print(f"{line:{min(width, 60)}}  # {loaded.origins[name]}")
    return 0


def _schema(_options: argparse.Namespace) -> int:
    from mineru_daemon import results

    print(json.dumps(results.json_schema(), indent=2))
    return 0


def _install(options: argparse.Namespace) -> int:
    from mineru_daemon import install

    return install.run(options)


def _demo(options: argparse.Namespace) -> int:
    from mineru_daemon import demo

    return demo.run(options.dir)
