"""What a reader must find in the good bundles, step by step."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import nibabel
import numpy as np

from primis.attacks.inside import open_records
from primis.codec import Codec
from primis.imaging.dicom_derived import preface
from primis.imaging.dicom_elements import DataSet, encode, put
from primis.imaging.dicom_series import join
from primis.imaging.image import Image
from primis.imaging.nifti import read_nifti
from primis.keys.seal import (
    derive,
    info_secret,
    page_secret,
    release_secrets,
    tile_secret,
)
from primis.keys.tier import Tier
from primis.sharing.opened import OpenedBundle
from primis.sharing.region import open_region
from primis.sharing.restore import decode_image, open_codes
from tests.make_vectors.known import (
    BUNDLE_ID,
    REGION,
    RELEASE_SECRET,
    image_secrets,
)


def key_tree() -> dict[str, object]:
    """Every secret that is derived for the vector's image, hex."""
    opened = release_secrets(RELEASE_SECRET, Tier.ORIGINAL)
    secrets = image_secrets()
    diagnostic = opened[Tier.DIAGNOSTIC]
    return {
        "release": {tier: secret.value.hex() for tier, secret in opened.items()},
        "image": {tier: secret.value.hex() for tier, secret in secrets.items()},
        "info": info_secret(secrets[Tier.PREVIEW]).value.hex(),
        "tile 0": {
            tier: tile_secret(secrets[tier], 0).value.hex()
            for tier in (Tier.PREVIEW, Tier.DIAGNOSTIC)
        },
        "catalogue page of id 00..00": page_secret(diagnostic, bytes(16)).value.hex(),
        "seal info": derive(info_secret(secrets[Tier.PREVIEW]), "seal info").value.hex(),
        "mask of tile 0, preview": derive(
            tile_secret(secrets[Tier.PREVIEW], 0), "mask"
        ).value.hex(),
    }


def records(bundle: OpenedBundle, codec: Codec) -> list[dict[str, object]]:
    """What the coder reads and what comes out, record by record, for readers in any language."""
    [(code, _)] = open_codes(bundle, codec)
    told = []
    for record in open_records(bundle):
        place = record.place
        tile = code.levels[place.plane, :, place.rows, place.columns]
        levels = np.ascontiguousarray(tile[place.atoms.start : place.atoms.stop])
        told.append(
            {
                "atoms": [place.atoms.start, place.atoms.stop],
                "record": record.record.hex(),
                "support": record.support.hex(),
                "values": record.values.hex(),
                "shape": list(levels.shape),
                "levels": [
                    [int(at), int(levels.ravel()[at])] for at in np.flatnonzero(levels.ravel())
                ],
            }
        )
    return told


def pixels_of(bundle: OpenedBundle, codec: Codec) -> dict[str, str]:
    """What each tier decodes."""
    tiers = (Tier.PREVIEW, Tier.DIAGNOSTIC)
    decoded = {tier: decode_image(bundle, tier, lambda digest: codec).pixels for tier in tiers}
    return {tier: pixels.astype(">u2").tobytes().hex() for tier, pixels in decoded.items()}


def facts_of(data: bytes, group: bytes, codec: Codec) -> dict[str, object]:
    """What a reader must find in the good bundles."""
    bundle, together = (OpenedBundle.read(made, image_secrets()) for made in (data, group))
    textured = decode_image(bundle, Tier.DIAGNOSTIC, lambda digest: codec, texture=True).pixels
    return {
        "bundle_id": BUNDLE_ID,
        "release_secret": RELEASE_SECRET.value.hex(),
        "image_secrets": {tier: secret.value.hex() for tier, secret in image_secrets().items()},
        "key_tree": key_tree(),
        "profile": bundle.header.profile.body,
        "head": bundle.header.head.hex(),
        "binding": bundle.header.binding.hex(),
        "info": bundle.unseal("info").hex(),
        "header": bundle.unseal("header").hex(),
        "public_sha256": hashlib.sha256(bundle.parts["public"]).hexdigest(),
        "records": records(bundle, codec),
        "shape": list(bundle.header.geometry.shape),
        "pixels, 16 bits each": pixels_of(bundle, codec),
        "pixels with texture, 16 bits each": textured.astype(">u2").tobytes().hex(),
        "group": {
            "info": together.unseal("info").hex(),
            "pixels, 16 bits each": pixels_of(together, codec),
            "region, as a grant has it": open_region(
                together, replace(REGION, first=4, last=4), Tier.DIAGNOSTIC
            ).body,
            "shape": list(together.header.geometry.shape),
        },
        "region, as a grant has it": open_region(bundle, REGION, Tier.DIAGNOSTIC).body,
        "source headers": {"dicom-series": series_header(), "nifti": nifti_header()},
    }


def series_header() -> dict[str, object]:
    """What the header of a series keeps of two files, and the header of each."""
    images, headers = [], []
    for number in (1, 2):
        data_set: DataSet = {}
        put(data_set, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.2")
        put(data_set, "SOPInstanceUID", f"1.2.3.{number}")
        put(data_set, "Modality", "CT")
        put(data_set, "InstanceNumber", str(number))
        put(data_set, "ImagePositionPatient", "0", "0", str(5 * number))
        headers.append(preface(data_set) + encode(data_set))
        pixels = np.full((1, 2, 2, 1), number, np.uint16)
        images.append(Image(pixels, 12, "MONOCHROME2", "dicom", header=headers[-1]))
    names = ["ct/b.dcm", "ct/a.dcm"]
    files = [{"name": n, "header": h.hex()} for n, h in zip(names, headers, strict=True)]
    return {"header": join(images, names).header.hex(), "files": files}


def nifti_header() -> dict[str, object]:
    """Of a volume of real numbers: its file, its samples and what its header keeps."""
    voxels = np.arange(8, dtype=np.float32).reshape(2, 2, 2) / 4
    file = bytes(nibabel.Nifti1Image(voxels, np.diag([1, 2, 3, 1])).to_bytes())
    image = read_nifti(file, 100)
    return {
        "file": file.hex(),
        "header": image.header.hex(),
        "samples": image.pixels.ravel().tolist(),
        "shape": list(image.shape),
    }
