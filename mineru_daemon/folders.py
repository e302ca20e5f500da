"""Can the folders that the settings name be used?"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from mineru_daemon.errors import ConfigError
from mineru_daemon.settings import FOLDER_NAMES, Settings


def prepare_folders(settings: Settings) -> None:
    """Create missing folders, and see that all can be used.

    A read-only file system is most often the service's sandbox, which only `install`
    opens for other folders.

    Raises ConfigError, one sentence for each folder that cannot.
    """
    problems = []
    for name in FOLDER_NAMES:
        folder: Path = getattr(settings, name)
        access = os.R_OK | os.X_OK
        if name != "inbox" or settings.on_success != "keep":
            access |= os.W_OK
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            problems.append(f"The {name} {folder} is not a folder; move the file away.")
        except OSError as error:
            advice = "; run mineru-daemon install again" if error.errno == errno.EROFS else ""
            problems.append(
                f"The {name} folder {folder} does not exist and cannot be created: "
                f"{error.strerror}{advice}."
            )
        else:
            if not os.access(folder, access, effective_ids=True):
                how = "written" if access & os.W_OK else "read"
                problems.append(
                    f"The {name} folder {folder} cannot be {how} by user id {os.geteuid()}; "
                    "change its owner or mode."
                )
    if problems:
        raise ConfigError("\n".join(problems))
