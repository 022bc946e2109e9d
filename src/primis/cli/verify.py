"""`primis verify`: whether a release is, to its last byte, what its owner signed."""

from __future__ import annotations

from dataclasses import asdict

import typer

from primis.cli.arguments import show_size
from primis.cli.known import open_release, require_release, telling
from primis.cli.options import From, Json, ReleasePlace, TrustAnew
from primis.cli.say import counted, result, tell
from primis.cli.say import note as say_note

EXAMPLES = (
    "primis verify release",
    "primis verify https://hospital.example/release",
    "primis verify s3://bucket/release --json",
)


def verify(
    release: ReleasePlace,
    signer: From = None,
    trust_anew: TrustAnew = False,
    as_json: Json = False,
) -> None:
    """Read every file of a release and compare it with what the owner signed. Needs no key."""
    require_release(release)
    opened = open_release(release, signer=signer, anew=trust_anew)
    from primis.cli.progress import bar
    from primis.release.verify import verify as verify_all

    with telling(opened), bar() as progress:
        task = progress.add_task("verifying", total=len(opened))
        found = verify_all(opened, lambda done: progress.update(task, completed=done))
    for line in found.wrong:
        tell(f"primis: {line}")
    if found.unlisted:
        files = counted(len(found.unlisted), "file")
        say_note(
            f'not part of the release: {files} in bundles/, beginning with "{found.unlisted[0]}"'
        )
    size = show_size(found.bytes)
    line = (
        f"{found.bundles} of {len(opened)} bundles ({size}) are what {opened.manifest.signer[:16]} "
        f"signed; {counted(found.grants, 'grant')}"
    )
    result(line, {"release": opened.place, "images": len(opened)} | asdict(found), as_json=as_json)
    if found.wrong:
        raise typer.Exit(1)
