"""Where a person's own key lies, and what was seen of releases: the configuration folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def config_folder() -> Path:
    """Of primis: in XDG_CONFIG_HOME where that is set, on every system; else where the system keeps
    settings."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "primis"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "primis"
    if sys.platform == "win32":
        roaming = os.environ.get("APPDATA", "")
        return (Path(roaming) if roaming else Path.home() / "AppData" / "Roaming") / "primis"
    return Path.home() / ".config" / "primis"


def default_owner_key() -> Path:
    """PRIMIS_OWNER_KEY, or owner.key in the configuration folder; empty counts as unset."""
    given = os.environ.get("PRIMIS_OWNER_KEY")
    return Path(given) if given else config_folder() / "owner.key"


def known_releases_file() -> Path:
    """Signers and versions that were seen."""
    return config_folder() / "known_releases.json"
