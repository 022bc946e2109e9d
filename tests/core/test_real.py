"""Real chest radiographs and DICOM, the whole way, where the image collection is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from primis.imaging.files import read
from primis.jobs import restore as restoring
from primis.jobs.share import run as sharing
from primis.keys.identity import parse_recipient, read_identities
from primis.metrics.fidelity import data_range, psnr
from primis.release.reader import Release
from tests.conftest import SETTINGS


def test_chest_radiographs_come_back_at_38_db_with_small_keys(
    real_data: Path, keys, signer, tmp_path
) -> None:
    files = sorted((real_data / "cxr-nih" / "test").rglob("*.webp"))[::26]
    dicom = sorted((real_data / "dicom" / "chest").glob("*.dcm"))[1:3]  # 8 and 10 bits
    to = [parse_recipient(f"alice={keys['alice']}")]
    shared = sharing.share(
        [*files, *dicom], tmp_path / "r", to, signer, SETTINGS, tier="original", with_original=True
    )
    assert [r.error for r in shared] == [None] * len(shared)
    release = Release(tmp_path / "r")
    results = restoring.restore(
        release, read_identities(keys["alice"]), tmp_path / "out", tier="diagnostic"
    )
    assert [r.error for r in results] == [None] * len(results)
    quality = []
    for path in [*files, *dicom]:
        source, _ = read(path)
        restored, _ = read(tmp_path / "out" / path.name)
        assert (source.shape, source.bit_depth, source.kind) == (
            restored.shape,
            restored.bit_depth,
            restored.kind,
        )
        if path in files:
            quality.append(
                psnr(source.pixels, restored.pixels, data_range(source.pixels, source.bit_depth))
            )
    assert np.mean(quality) >= 39
    for bundle_id in release.ids:
        header = release.header(bundle_id)
        size = {s.name: s.bytes for s in header.sections}
        if (header.geometry.height, header.geometry.width) == (512, 512):
            assert 8 * (size["public"] + size["index"]) / 512**2 <= 0.09
    restoring.restore(release, read_identities(keys["alice"]), tmp_path / "files", tier="original")
    for path in [*files, *dicom]:
        assert (tmp_path / "files" / path.name).read_bytes() == path.read_bytes()
