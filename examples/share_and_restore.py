"""Share a drawn chest with one partner and restore it, from Python."""

import tempfile
from pathlib import Path

from primis import Release, Settings, parse_recipient, read_identities, read_signer, restore, share
from primis.imaging.phantom import phantom_dicom
from primis.keys.identity import generate

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "chest.dcm").write_bytes(phantom_dicom(256))
    for key in ("owner.key", "partner.key"):
        (folder / key).write_text(generate())

    settings = Settings(
        decoys=4.0, protection="keyed", sparsity=4.0, support_bits=2.75, value_bits=4.0
    )
    partner = parse_recipient(f"partner={folder / 'partner.key'}")
    share(
        [folder / "chest.dcm"],
        folder / "release",
        [partner],
        read_signer(folder / "owner.key"),
        settings,
    )

    release = Release(folder / "release")
    [result] = restore(release, read_identities(folder / "partner.key"), folder / "restored")
    print(
        f"restored {result.name}, tier {result.tier}, {result.bytes} bytes, signed by {release.manifest.signer[:16]}"
    )
