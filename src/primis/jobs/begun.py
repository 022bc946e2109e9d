"""A release in the making, which only the owner who began it goes on with.

Under secrets that somebody else laid there, every image would be open to them.
"""

from __future__ import annotations

from primis.atomic import remove_folder
from primis.errors import OutputError
from primis.jobs.work import Work
from primis.keys.grant import read_grant, split_grant
from primis.keys.identity import Signer, verify
from primis.keys.tier import HIGHEST
from primis.release.grants import GRANTS, Scope, owner_grant, write_grant
from primis.stores.local import LocalStore


def begin_release(work: Work, signer: Signer, release_id: str | None = None) -> Scope:
    """New secrets for a folder in the making. release_id: None for a new release."""
    scope = Scope.new(release_id)
    remove_folder(work.partial / GRANTS)
    store = LocalStore(work.partial)
    write_grant(store, owner_grant(scope, signer), signer.recipient, signer)
    signature = signer.sign(_message(work, scope.release, scope.keys))
    work.journal.note(begun=scope.release, keys=scope.keys, signature=signature)
    return scope


def release_begun(work: Work, signer: Signer, release_id: str | None = None) -> Scope:
    """What was begun; a new start if it had not got that far. Raises OutputError where another
    began it, or for another release."""
    files = list((work.partial / GRANTS).glob("owner.*.age"))
    noted = [record for record in work.journal.records() if "begun" in record]
    if not files or not noted:
        return begin_release(work, signer, release_id)
    begun, keys, signature = (str(noted[-1].get(name)) for name in ("begun", "keys", "signature"))
    sealed = signer.identity.decrypt(files[0].read_bytes()) or b""
    grant = read_grant(split_grant(sealed, str(files[0])), str(files[0]))
    said = (grant.release, grant.keys, grant.signer, grant.label, grant.tier)
    wanted = (release_id or begun, keys, signer.public, "owner", HIGHEST)
    message = _message(work, wanted[0], keys)
    if grant.secret is None or said != wanted or not verify(signer.public, message, signature):
        raise OutputError(
            f'"{work.partial}" was not begun with your key: look what it is, and remove it'
        )
    return Scope(grant.release, grant.keys, grant.secret)


def _message(work: Work, release_id: str, keys: str) -> bytes:
    return f"primis/1 begun\n{work.out}\n{release_id}\n{keys}\n{work.head}".encode()
