"""The two levels of protection, by their names."""

from primis.bundle.settings import Protection
from primis.sharing.protection.keyed import Keyed
from primis.sharing.protection.level import Level
from primis.sharing.protection.sca import Sca

LEVELS: dict[Protection, Level] = {Protection.KEYED: Keyed(), Protection.SCA: Sca()}
