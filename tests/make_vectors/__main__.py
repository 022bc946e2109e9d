"""Writes tests/vectors/ anew: good bundles, a manifest, a release, and a file per way to be wrong.

`make vectors`. Secrets, ids and draws are fixed, so the good files are the same at every run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from primis.bundle.settings import Settings
from primis.codec import Codec
from primis.imaging.phantom import phantom_dicom
from primis.jobs.share.run import share
from primis.keys.identity import read_signer
from primis.network.checkpoint import read_checkpoint
from primis.sharing.share import share_image
from tests.make_vectors.bad import bad_bundles, bad_groups
from tests.make_vectors.change import Good
from tests.make_vectors.facts import facts_of
from tests.make_vectors.kinds import bad_series, facts_of_kinds, good_kinds
from tests.make_vectors.known import (
    BUNDLE_ID,
    OWNER,
    READER,
    SETTINGS,
    TINY,
    VECTORS,
    fixed_draw,
    image_secrets,
    moving_phantom,
    phantom,
    tiny_model,
)
from tests.make_vectors.manifests import bad_manifests, manifest


def release() -> None:
    """A whole release of three images under tests/vectors/release, and the keys that open it."""
    folder = VECTORS / "release"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(VECTORS / "keys", ignore_errors=True)
    (VECTORS / "keys").mkdir()
    for name, text in (("owner", OWNER), ("reader", READER)):
        (VECTORS / "keys" / f"{name}.key").write_text(text + "\n")
    signer, reader = (read_signer(VECTORS / "keys" / f"{n}.key") for n in ("owner", "reader"))
    with tempfile.TemporaryDirectory() as name:
        for seed in range(3):
            (Path(name) / f"chest-{seed}.dcm").write_bytes(phantom_dicom(64, seed=seed))
        table = Path(name) / "table.csv"
        table.write_text("file,label,patient\nchest-0.dcm,normal,a\nchest-2.dcm,é,\n", "utf-8")
        recipient = replace(reader.recipient, label="reader")
        share([Path(name)], folder, [recipient], signer, Settings(), model=TINY, labels=table)


def main() -> None:
    """Write all files."""
    if not TINY.exists():
        tiny_model()
    codec = Codec(read_checkpoint(TINY))
    bundle, group, good = good_bundle(codec), good_group(codec), manifest()
    kinds = good_kinds(codec)
    bad = bad_bundles(bundle) | bad_groups(Good(group)) | bad_series(Good(kinds["good_series"]))
    good_ones = {"good": bundle, "good_group": group} | kinds
    write_folder(VECTORS / "bundles", ".primis", good_ones | bad)
    write_folder(VECTORS / "manifests", ".json", {"good": good} | bad_manifests(good))
    facts = facts_of(bundle, group, codec) | {"kinds": facts_of_kinds(kinds, codec)}
    (VECTORS / "good.json").write_text(json.dumps(facts, indent=1) + "\n")
    release()


def write_folder(folder: Path, suffix: str, files: dict[str, bytes]) -> None:
    """These files, and no others."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / f"{name}{suffix}").write_bytes(data)


def good_bundle(codec: Codec) -> bytes:
    """One image at every tier."""
    shared = share_image(
        phantom(),
        SETTINGS,
        image_secrets(),
        codec,
        alone=True,
        bundle_id=BUNDLE_ID,
        name="phantom.tif",
        original=b"the original file",
        measure=True,
        draw=fixed_draw,
    )
    return shared.data


def good_group(codec: Codec) -> bytes:
    """Six frames, coded by four: a group of four and one of two. Its id, and so its secrets, are
    those of the other good bundle."""
    shared = share_image(
        moving_phantom(),
        replace(SETTINGS, original_bits=0.0),
        image_secrets(),
        codec,
        alone=True,
        bundle_id=BUNDLE_ID,
        name="phantoms.tif",
        group=4,
        draw=fixed_draw,
    )
    return shared.data


if __name__ == "__main__":
    main()
