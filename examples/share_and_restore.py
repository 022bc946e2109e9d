"""Share a phantom of a chest with one partner and read its pixels, from Python."""

import tempfile
from pathlib import Path

import primis
from primis.imaging.phantom import phantom_dicom
from primis.keys.identity import generate, read_signer

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "chest.dcm").write_bytes(phantom_dicom(256))
    for key in ("owner.key", "partner.key"):
        (folder / key).write_text(generate())
    partner = read_signer(folder / "partner.key").recipient.text  # age1...

    primis.share(folder / "chest.dcm", folder / "release", to=partner, owner=folder / "owner.key")

    with primis.open(folder / "release", folder / "partner.key", remember=False) as release:
        image = release["chest.dcm"].read("diagnostic")
        print(f"{len(release)} image of {image.shape}, signed by {release.signer[:16]}")
