"""Writes tests/vectors/ anew: one good bundle and manifest, and one file per way to be wrong.

`make vectors`. Secrets, ids and draws are fixed, so the good files are the same at every run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import rfc8785

from primis.attacks.inside import open_records
from primis.bundle.container import read_bundle, write_bundle
from primis.bundle.header import HEAD, INFO_BASE, INFO_PER_FRAME
from primis.bundle.manifest import (
    CatalogueListing,
    Entry,
    Listing,
    Manifest,
    SignedManifest,
    list_bundles,
    manifest_message,
)
from primis.bundle.settings import Profile, Settings
from primis.canonical import canonical
from primis.codec import Codec
from primis.imaging.dicom_derived import preface
from primis.imaging.dicom_elements import DataSet, encode, put
from primis.imaging.dicom_series import join
from primis.imaging.image import Image
from primis.imaging.nifti import read_nifti
from primis.imaging.phantom import draw_phantom, phantom_dicom
from primis.imaging.region import Region
from primis.jobs.share.run import share
from primis.keys.identity import _signer, _x25519, read_signer
from primis.keys.seal import (
    Secret,
    TierSecrets,
    derive,
    info_secret,
    pad,
    page_secret,
    release_secrets,
    seal,
    tile_secret,
    unpad,
)
from primis.keys.seal import image_secrets as secrets_of_image
from primis.keys.tier import Tier
from primis.network.architecture import architecture_of
from primis.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from primis.network.presets import Preset
from primis.sharing.opened import OpenedBundle, whole_secret
from primis.sharing.region import open_region
from primis.sharing.restore import decode_image, open_codes
from primis.sharing.share import share_image

VECTORS = Path(__file__).parent / "vectors"
TINY = VECTORS / "tiny.safetensors"
BUNDLE_ID = "00112233445566778899aabbccddeeff"
RELEASE_SECRET = Secret(bytes(range(32)))
REGION = Region(10, 20, 30, 16)
OWNER = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
READER = "AGE-SECRET-KEY-1XNZA5E60N8C3HV3UTLKQZMQJDSUJ3T6RZ6VWQVNS4ESQ83EWLNTQAX8448"
SETTINGS = Settings(
    sparsity=4.0,
    code_bits=12.0,
    header_bytes=256,
    original_bits=1.5,
    exact_bits=0,
)


def fixed_draw(n: int) -> bytes:
    """A draw for vectors only: the same bytes at every call."""
    return hashlib.shake_256(b"primis vectors").digest(n)


def image_secrets() -> TierSecrets:
    """Of the vector's image, at every tier."""
    return secrets_of_image(release_secrets(RELEASE_SECRET, Tier.ORIGINAL), BUNDLE_ID)


def phantom() -> Image:
    """The image in the vector: 72 x 56, 12 bits."""
    pixels = draw_phantom(96)[8:80, 20:76]
    return Image(
        np.ascontiguousarray(pixels)[None, :, :, None], 12, "MONOCHROME2", "tiff", (0.5, 0.5), b"{}"
    )


def moving_phantom() -> Image:
    """The image in the vector of a group: six frames of 48 x 40, each a pixel further down."""
    whole = draw_phantom(96)
    frames = [whole[k + 20 : k + 68, 30:70] for k in range(6)]
    return Image(np.stack(frames)[..., None], 12, "MONOCHROME2", "tiff", (0.5, 0.5), b"{}")


def tiny_model() -> None:
    """A model small enough to keep here: the plain transform and a fitted support coder."""
    import torch

    from primis.network.build import as_network
    from primis.network.tables import find_rates, fit_context_model

    torch.manual_seed(0)
    architecture = architecture_of(preset := Preset("tiny", widths=(8, 8)))
    network = architecture.build()
    codes, coefficients = [], []
    for seed in range(6):
        x = torch.from_numpy(draw_phantom(256, seed=seed).astype(np.float32))[None, None]
        z = architecture.layout.transform_dc(as_network(network).encode(x).detach().numpy())
        coefficients.append(z)
        codes.append(architecture.plain_selection(z, 256 * 2 ** (seed % 5)).levels[0])
    tables = fit_context_model(codes, architecture.layout, steps=60)
    tables = find_rates(architecture, tables, coefficients)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    found = Checkpoint(preset, tensors, tables, {"data": "phantoms"})
    write_checkpoint(found, TINY)


PROFILE_AT = HEAD.size + 2
"""Where a bundle's own profile starts, after its size."""


def profile_of(data: bytes) -> bytes:
    """A bundle's own profile."""
    length = struct.unpack_from(">H", data, PROFILE_AT - 2)[0]
    return data[PROFILE_AT : PROFILE_AT + length]


def raw_profile(data: bytes, change) -> bytes:
    """The bundle with its profile changed as bytes, under its new name and length."""
    old = profile_of(data)
    new = change(old)
    head = data[:24] + hashlib.sha256(new).digest()[:8] + data[32 : PROFILE_AT - 2]
    return head + struct.pack(">H", len(new)) + new + data[PROFILE_AT + len(old) :]


def rebuild(data: bytes, change) -> bytes:
    """The bundle with its profile changed as JSON and written canonically again."""

    def rewritten(profile: bytes) -> bytes:
        body = json.loads(profile)
        change(body)
        return rfc8785.dumps(body)

    return raw_profile(data, rewritten)


def with_number(data: bytes, at: int, value: int) -> bytes:
    """The bundle with a number of 4 bytes in its head changed."""
    return data[:at] + struct.pack(">I", value) + data[at + 4 :]


def altered(data: bytes, name: str, part_of: float = 0.5) -> bytes:
    """One byte of a section flipped, by default in its middle."""
    header, parts = read_bundle(data, "good")
    part = bytearray(parts[name])
    part[int(len(part) * part_of)] ^= 1
    return write_bundle(header, parts | {name: bytes(part)}, alone=True)


def resealed(data: bytes, name: str, change) -> bytes:
    """A section changed before it was sealed: its seal and size are right."""
    bundle = OpenedBundle.read(data, image_secrets())
    plain = change(bundle.unseal_padded(name))
    sealed = seal(plain, whole_secret(name, bundle.secrets), name, bundle.header.binding)
    return write_bundle(bundle.header, bundle.parts | {name: sealed}, alone=True)


def support_at(data: bytes) -> float:
    """Where in `public` the first record's sealed support lies, as `altered` takes it."""
    bundle = OpenedBundle.read(data, image_secrets())
    secret = tile_secret(bundle.secrets[Tier.PREVIEW], 0)
    record = bundle.record(0, 0, secret)
    return (record.stream_at + record.stream_length / 2) / len(bundle.parts["public"])


GROUP = INFO_BASE - 1
"""Where `info` says how many frames are coded together."""

FRAMES, HEIGHT, WIDTH, CHANNELS = range(32, 48, 4)
"""Where numbers of the head lie."""


@dataclass(frozen=True)
class Good:
    """The good bundle, and ways to change it."""

    data: bytes

    def put(self, *keys: str, value: object) -> bytes:
        """With a field of its profile set."""

        def change(body: Any) -> None:
            for key in keys[:-1]:
                body = body[key]
            body[keys[-1]] = value

        return rebuild(self.data, change)

    def setting(self, name: str, value: object) -> bytes:
        """With another setting."""
        return self.put("settings", name, value=value)

    def replaced(self, old: bytes, new: bytes) -> bytes:
        """With its profile changed as bytes, once."""
        return raw_profile(self.data, lambda profile: profile.replace(old, new, 1))

    def number(self, at: int, value: int) -> bytes:
        """With a number of its head set."""
        return with_number(self.data, at, value)

    def info(self, start: int, new: bytes) -> bytes:
        """With bytes of section `info` replaced before it was sealed."""
        return resealed(
            self.data, "info", lambda info: info[:start] + new + info[start + len(new) :]
        )

    def quality(self, psnr: int, ssim: int) -> bytes:
        """With other figures of its quality."""
        return self.info(20, struct.pack(">Ih", psnr, ssim))

    def stretch(self, low: int, high: int, times: int) -> bytes:
        """With another stretch."""
        return self.info(26, struct.pack(">2iB", low, high, times))

    def header(self, change: Callable[[bytes], bytes]) -> bytes:
        """With section `header` changed before it was padded and sealed."""
        return resealed(self.data, "header", lambda padded: pad(change(unpad(padded)), len(padded)))

    def header_of(self, text: bytes) -> bytes:
        """With another section `header`."""
        return self.header(lambda packed: zlib.compress(text, wbits=-15))


def bad_bundles(good: bytes) -> dict[str, bytes]:
    """Name of the failure -> bytes that a reader must reject."""
    parts = (bad_layouts, bad_profiles, bad_settings, bad_sizes, bad_infos, bad_headers, bad_plains)
    bad = {f"{name}_altered": altered(good, name) for name in ALTERED}
    for part in parts:
        bad |= part(Good(good))
    return bad


ALTERED = ("info", "index", "header", "original")


def bad_layouts(good: Good) -> dict[str, bytes]:
    """What does not follow the layout of a bundle."""
    data, length = good.data, len(profile_of(good.data))
    sections = PROFILE_AT + length
    return {
        "bad_magic": b"PRIMIS2\n" + data[8:],
        "truncated": data[:-1],
        "truncated_head": data[:40],
        "truncated_sections": data[: sections + 40],
        "trailing_data": data + b"\0",
        "profile_missing": data[: PROFILE_AT - 2] + bytes(2) + data[sections:],
        "profile_too_long": data[: PROFILE_AT - 2] + b"\x20\0" + data[PROFILE_AT:],
        "profile_of_another_name": data[:24] + bytes(8) + data[32:],
        "a_value_altered_in_public": altered(data, "public", 0),
        "a_support_altered_in_public": altered(data, "public", support_at(data)),
    }


def bad_profiles(good: Good) -> dict[str, bytes]:
    """A profile that is no canonical JSON, or has other fields."""
    return {
        "profile_not_json": raw_profile(good.data, lambda p: b"[" + p[1:]),
        "profile_with_spaces": good.replaced(b":", b": "),
        "profile_key_twice": good.replaced(b'"format":1', b'"format":1,"format":1'),
        "profile_number_with_point": good.replaced(b'"stride":16', b'"stride":16.0'),
        "profile_number_with_exponent": good.replaced(b'"stride":16', b'"stride":16e0'),
        "profile_deeply_nested": raw_profile(good.data, lambda p: b"[" * 4000),
        "profile_unknown_field": good.put("comment", value="x"),
        "format_2": good.put("format", value=2),
        "format_is_true": good.put("format", value=True),
        "model_not_hex": good.put("model", value="x" * 64),
        "model_upper_case": good.put("model", value="A" * 64),
        "tile_cuts_a_block": good.put("code", "tile", value=30),
        "too_many_atoms": good.put("code", "code_maps", value=4096),
        "stride_zero": good.put("code", "stride", value=0),
    }


def bad_settings(good: Good) -> dict[str, bytes]:
    """Settings out of bounds, or of another type."""
    pop = rebuild(good.data, lambda body: body["settings"].pop("original_bits"))
    return {
        "protection_unknown": good.setting("protection", "none"),
        "sparsity_zero": good.setting("sparsity", 0),
        "sparsity_is_text": good.setting("sparsity", "4000"),
        "sparsity_has_a_fraction": good.setting("sparsity", 4000.5),
        "decoys_negative": good.setting("decoys", -1),
        "header_bytes_too_small": good.setting("header_bytes", 63),
        "header_bytes_too_large": good.setting("header_bytes", (1 << 24) + 1),
        "header_bytes_is_null": good.setting("header_bytes", None),
        "header_bytes_disagrees_with_sizes": good.setting("header_bytes", 512),
        "original_bits_missing": pop,
        "original_bits_negative": good.setting("original_bits", -1),
        "original_bits_too_large": good.setting("original_bits", 64_001),
        "original_bits_disagrees_with_sizes": good.setting("original_bits", 1250),
        "original_without_budget": good.setting("original_bits", 0),
        "exact_bits_is_three": good.setting("exact_bits", 3),
        "exact_bits_is_true": good.setting("exact_bits", True),
        "exact_bits_without_section": good.setting("exact_bits", 1),
    }


def bad_sizes(good: Good) -> dict[str, bytes]:
    """Sizes out of bounds, or other than those of the sections."""
    tiny_tiles = rebuild(good.data, lambda body: body["code"].update(stride=1, tile=4, code_maps=1))
    side = 1 << 17
    return {
        "height_zero": good.number(HEIGHT, 0),
        "height_too_large": good.number(HEIGHT, side + 1),
        "channels_seventeen": good.number(CHANNELS, 17),
        "too_many_samples": good.number(FRAMES, 1 << 20),
        "billions_of_tiles": with_number(with_number(tiny_tiles, HEIGHT, side), WIDTH, side),
        "geometry_disagrees_with_sizes": good.number(HEIGHT, 400),
    }


def bad_infos(good: Good) -> dict[str, bytes]:
    """What no encoder seals in section `info`."""
    return {
        "info_of_another_kind": good.info(0, b"\x63"),
        "info_of_no_depth": good.info(3, b"\0"),
        "info_with_half_a_spacing": good.info(4, bytes(8)),
        "info_stretch_upside_down": good.stretch(5, 4, 3),
        "info_stretch_of_no_times": good.stretch(0, 0, 0),
        "info_stretch_of_17_times": good.stretch(4, 5, 17),
        "info_stretch_of_nothing": good.stretch(4, 5, 1),
        "info_stretch_outside_the_type": good.stretch(0, 65536, 3),
        "info_group_of_one_frame": good.info(GROUP, b"\2"),
        "info_range_upside_down": good.info(INFO_BASE, struct.pack(">2i", 5, 4)),
        "info_threshold_not_a_number": good.info(INFO_BASE + 8, b"\x7f" + b"\xff" * 7),
        "info_threshold_zero": good.info(INFO_BASE + 8, bytes(8)),
        "info_ssim_above_one": good.quality(42000, 1001),
        "info_ssim_without_psnr": good.quality(0, 900),
        "info_without_loss_and_unlike": good.quality((1 << 32) - 1, 999),
        "info_texture_without_loss": good.quality((1 << 32) - 1, 1000),
        "info_texture_not_measured": good.quality(0, 0),
        "info_texture_without_spread": good.info(INFO_BASE + 17, b"\0"),
        "info_texture_goes_on": resealed(
            good.data, "info", lambda info: info[:-1] + bytes([info[-1] | 1])
        ),
    }


def bad_groups(good: Good) -> dict[str, bytes]:
    """What no encoder seals of frames that are coded together. good: a bundle of six frames."""
    second = INFO_BASE + INFO_PER_FRAME
    return {
        "info_group_of_no_frame": good.info(GROUP, b"\0"),
        "info_group_of_three": good.info(GROUP, b"\3"),
        "info_group_of_sixteen": good.info(GROUP, b"\x10"),
        "info_group_of_other_ranges": good.info(second, struct.pack(">2i", 0, 1)),
        "info_group_of_other_thresholds": good.info(second + 8, struct.pack(">d", 1.0)),
        "a_value_altered_in_a_group": altered(good.data, "public", 0),
    }


def bad_headers(good: Good) -> dict[str, bytes]:
    """What no encoder seals in section `header`."""
    long_line = b'{"name":"x.tif","padding":"' + b" " * (1 << 16) + b'"}\n{}'
    cut_off = b'{"name":"x.tif","padding":{"declared":null,"values":1}}\n{}'
    plain = b'{"name":"phantom.tif"}\n{}'
    return {
        "sealed_header_not_compressed": good.header(lambda packed: plain),
        "sealed_header_cut_off": good.header(lambda packed: packed[:-1]),
        "sealed_header_trailing_data": good.header(lambda packed: packed + b"\0"),
        "sealed_header_without_name": good.header_of(b"{}\n{}"),
        "sealed_header_with_spaces": good.header_of(b'{"name": "x.tif"}\n{}'),
        "sealed_header_line_too_long": good.header_of(long_line),
        "sealed_header_without_newline": good.header_of(b'{"name":"phantom.tif"}'),
        "sealed_padding_cut_off": good.header_of(cut_off),
    }


def bad_plains(good: Good) -> dict[str, bytes]:
    """Sections that are wrong in their padding."""

    def sealed(name: str, change: Callable[[bytes], bytes]) -> bytes:
        return resealed(good.data, name, change)

    return {
        "header_padding_not_zero": sealed("header", lambda padded: padded[:-1] + b"\1"),
        "original_padding_not_zero": sealed("original", lambda padded: padded[:-1] + b"\1"),
        "original_longer_than_its_budget": sealed(
            "original", lambda padded: b"\xff" * 4 + padded[4:]
        ),
    }


def manifest() -> bytes:
    """A good manifest, signed by the vectors' owner."""
    signer = _signer(_x25519(OWNER, "vectors"))
    tree = list_bundles([Entry(f"{n:032x}", 1000 * n, "a" * 64) for n in (1, 2)])
    profile = Profile("d" * 64, 16, 32, 64, 4, SETTINGS)
    made = Manifest(
        release="c" * 32,
        version=3,
        keys="e" * 32,
        created="2024-01-31T12:00:00Z",
        profiles=(profile, replace(profile, model="b" * 64)),
        bundles=Listing(tree.count, tree.root),
        catalogue=CatalogueListing(256, tree.count, "f" * 64),
        signer=signer.public,
    )
    return signed(made.write())


def signed(body: bytes) -> bytes:
    """A manifest's body under the signature line of the vectors' owner."""
    signer = _signer(_x25519(OWNER, "vectors"))
    signature = signer.sign(manifest_message(signer.public, body))
    return SignedManifest(signer.public, signature, body).write()


def bad_manifests(good: bytes) -> dict[str, bytes]:
    """Name of the failure -> bytes that a reader must reject."""
    line, _, text = good.partition(b"\n")
    body = json.loads(text)

    def put(**fields):
        return signed(rfc8785.dumps(body | fields))

    def bytes_changed(change):
        return signed(change(text))

    signer, _, signature = line.partition(b" ")
    first, second = body["profiles"]
    bundles, catalogue = body["bundles"], body["catalogue"]
    without_keys = {name: value for name, value in body.items() if name != "keys"}
    return {
        "trailing_newline": bytes_changed(lambda t: t + b"\n"),
        "with_spaces": bytes_changed(lambda t: t.replace(b":", b": ", 1)),
        "key_twice": bytes_changed(lambda t: t.replace(b'"format":1', b'"format":1,"format":1')),
        "no_signature_line": text,
        "signature_cut_off": line[:-2] + b"\n" + text,
        "signature_upper_case": signer + b" " + signature.upper() + b"\n" + text,
        "signature_of_another": line + b"\n" + canonical(body | {"version": 4}),
        "signer_replaced": b"e" * 64 + b" " + signature + b"\n" + text,
        "unknown_field": put(comment="x"),
        "format_2": put(format=2),
        "format_is_true": put(format=True),
        "profiles_out_of_order": put(profiles=[second, first]),
        "profile_twice": put(profiles=[first, first]),
        "no_profile": put(profiles=[]),
        "version_zero": put(version=0),
        "version_is_text": put(version="3"),
        "version_has_a_fraction": put(version=3.5),
        "keys_missing": signed(canonical(without_keys)),
        "keys_short": put(keys="e" * 31),
        "bundles_is_a_list": put(bundles=[]),
        "no_bundles": put(bundles=bundles | {"count": 0}),
        "page_is_short": put(bundles=bundles | {"page": "a" * 63}),
        "catalogue_of_another_count": put(catalogue=catalogue | {"count": 3}),
        "created_has_a_newline": put(created="2024-01-31T12:00:00Z\nsigner: trusted"),
        "created_is_a_lone_surrogate": signed(
            canonical(body).replace(b"2024-01-31T12:00:00Z", b"\\ud800")
        ),
    }


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


def main() -> None:
    """Write all files."""
    if not TINY.exists():
        tiny_model()
    codec = Codec(read_checkpoint(TINY))
    bundle, group, good = good_bundle(codec), good_group(codec), manifest()
    bad = bad_bundles(bundle) | bad_groups(Good(group))
    write_folder(VECTORS / "bundles", ".primis", {"good": bundle, "good_group": group} | bad)
    write_folder(VECTORS / "manifests", ".json", {"good": good} | bad_manifests(good))
    (VECTORS / "good.json").write_text(json.dumps(facts_of(bundle, group, codec), indent=1) + "\n")
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


if __name__ == "__main__":
    main()
