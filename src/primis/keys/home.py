"""Where a person's own key lies, and what was seen of releases: the configuration folder; and where
releases for hosts are made."""

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


def work_folder() -> Path:
    """Where a release for a host is made before it is sent: PRIMIS_WORK, or where the system keeps
    what programs are at."""
    given = os.environ.get("PRIMIS_WORK") or ""
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        return Path(state) / "primis"
    if sys.platform == "darwin":
        return config_folder() / "work"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "primis"
    return Path.home() / ".local" / "state" / "primis"
