"""Writes tests/vectors/ anew: one good bundle and manifest, and one file per way to be wrong.

`make vectors`. Secrets, ids and draws are fixed, so the good files are the same at every run.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from pathlib import Path

import numpy as np

from primis.bundle.layout import (
    MAGIC,
    Entry,
    Manifest,
    Settings,
    SignedManifest,
    canonical,
    manifest_message,
    read_bundle,
    write_bundle,
)
from primis.codec import Codec
from primis.imaging.image import Image
from primis.imaging.phantom import draw_phantom
from primis.keys.identity import _signer, _x25519
from primis.keys.seal import Secret, image_secret, pad, release_secrets, seal, unpad, unseal
from primis.network.architecture import architecture_of
from primis.network.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from primis.network.presets import Preset
from primis.sharing.image_bundle import restore_image, share_image

VECTORS = Path(__file__).parent / "vectors"
BUNDLE_ID = "00112233445566778899aabbccddeeff"
RELEASE_SECRET = Secret(bytes(range(32)))
OWNER = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
SETTINGS = Settings(
    decoys=4.0,
    protection="keyed",
    sparsity=4.0,
    support_bits=2.75,
    value_bits=4.0,
    header_bytes=256,
    original_bits=1.5,
    exact_bits=0,
)


def fixed_draw(n: int) -> bytes:
    """A draw for vectors only: the same bytes at every call."""
    return hashlib.shake_256(b"primis vectors").digest(n)


def image_secrets() -> dict[str, Secret]:
    """Of the vector's image, at every tier."""
    opened = release_secrets(RELEASE_SECRET, "original")
    return {tier: image_secret(secret, BUNDLE_ID) for tier, secret in opened.items()}


def phantom() -> Image:
    """The image in the vector: 72 x 56, 12 bits."""
    pixels = draw_phantom(96)[8:80, 20:76]
    return Image(
        np.ascontiguousarray(pixels)[None, :, :, None], 12, "MONOCHROME2", "tiff", (0.5, 0.5), b"{}"
    )


def tiny_model() -> None:
    """A model small enough to keep here: the plain transform and a fitted support coder."""
    import torch

    from primis.network.build import as_network
    from primis.network.tables import fit_context_model

    torch.manual_seed(0)
    architecture = architecture_of(preset := Preset("tiny", widths=(8, 8)))
    network = architecture.build()
    codes = []
    for seed in range(6):
        x = torch.from_numpy(draw_phantom(256, seed=seed).astype(np.float32))[None, None]
        z = architecture.layout.transform_dc(as_network(network).encode(x).detach().numpy())
        codes.append(architecture.plain_selection(z, 256 * 2 ** (seed % 5)).levels[0])
    tables = fit_context_model(codes, architecture.layout, steps=60)
    tensors = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    found = Checkpoint(preset, tensors, tables, {"data": "phantoms"})
    write_checkpoint(found, VECTORS / "tiny.safetensors")


def rebuild(data: bytes, change) -> bytes:
    """The bundle with its header changed as JSON and written canonically again."""
    length = struct.unpack(">I", data[8:12])[0]
    body = json.loads(data[12 : 12 + length])
    change(body)
    head = canonical(body)
    return MAGIC + struct.pack(">I", len(head)) + head + data[12 + length :]


def raw_header(data: bytes, change) -> bytes:
    """The bundle with its header changed as bytes."""
    length = struct.unpack(">I", data[8:12])[0]
    head = change(data[12 : 12 + length])
    return MAGIC + struct.pack(">I", len(head)) + head + data[12 + length :]


def altered(data: bytes, name: str, part_of: float = 0.5) -> bytes:
    """One byte of a section flipped, by default in its middle, and the digest in the header made to
    match."""
    header, parts = read_bundle(data, "good")
    at = len(data) - sum(s.bytes for s in header.sections)
    for section in header.sections:
        if section.name == name:
            break
        at += section.bytes
    part = bytearray(parts[name])
    part[int(len(part) * part_of)] ^= 1
    digest = hashlib.sha256(part).hexdigest()

    def change(body):
        next(s for s in body["sections"] if s["name"] == name)["sha256"] = digest

    return rebuild(data[:at] + bytes(part) + data[at + len(part) :], change)


def resealed(data: bytes, name: str, tier: str, change) -> bytes:
    """A section changed before it was sealed: its seal, size and digest are right."""
    header, parts = read_bundle(data, "good")
    secret = image_secrets()[tier]
    plain = change(unseal(parts[name], secret, name, header.binding))
    return write_bundle(header, parts | {name: seal(plain, secret, name, header.binding)})


def without_original(data: bytes) -> bytes:
    """The bundle without its last section."""
    length = read_bundle(data, "good")[0].sections[-1].bytes
    return rebuild(data[:-length], lambda body: body["sections"].pop())


def bad_bundles(good: bytes) -> dict[str, bytes]:
    """Name of the failure -> bytes that a reader must reject."""

    def put(*keys, value):
        def change(body):
            for key in keys[:-1]:
                body = body[key]
            body[keys[-1]] = value

        return lambda: rebuild(good, change)

    def sections(edit):
        return lambda: rebuild(good, lambda body: edit(body["sections"]))

    def sealed_header(change):
        return lambda: resealed(
            good, "header", "diagnostic", lambda padded: pad(change(unpad(padded)), len(padded))
        )

    def padding(name, tier, change):
        return lambda: resealed(good, name, tier, change)

    cases = {
        "bad_magic": lambda: b"PRIMIS2\n" + good[8:],
        "truncated": lambda: good[:-1],
        "truncated_header": lambda: good[:40],
        "trailing_data": lambda: good + b"\0",
        "header_too_long": lambda: good[:8] + b"\xff\xff\xff\xff" + good[12:],
        "header_not_json": lambda: raw_header(good, lambda h: b"[" + h[1:]),
        "header_with_spaces": lambda: raw_header(good, lambda h: h.replace(b":", b": ", 1)),
        "header_key_twice": lambda: raw_header(
            good, lambda h: h.replace(b'"format":1', b'"format":1,"format":1')
        ),
        "header_whole_number_with_point": lambda: raw_header(
            good, lambda h: h.replace(b'"height":72', b'"height":72.0')
        ),
        "header_deeply_nested": lambda: raw_header(good, lambda h: b"[" * 30000),
        "header_unknown_field": put("comment", value="x"),
        "format_2": put("format", value=2),
        "id_upper_case": put("id", value=BUNDLE_ID.upper()),
        "id_short": put("id", value=BUNDLE_ID[:-1]),
        "model_not_hex": put("model", value="x" * 64),
        "protection_unknown": put("settings", "protection", value="none"),
        "sparsity_too_fine": put("settings", "sparsity", value=4.0001),
        "sparsity_is_text": put("settings", "sparsity", value="4"),
        "decoys_negative": put("settings", "decoys", value=-1),
        "header_bytes_too_small": put("settings", "header_bytes", value=255),
        "header_bytes_too_large": put("settings", "header_bytes", value=(1 << 24) + 1),
        "header_bytes_is_text": put("settings", "header_bytes", value="256"),
        "header_bytes_with_fraction": put("settings", "header_bytes", value=256.5),
        "header_bytes_is_null": put("settings", "header_bytes", value=None),
        "header_bytes_disagrees_with_sizes": put("settings", "header_bytes", value=512),
        "original_bits_missing": lambda: rebuild(
            good, lambda body: body["settings"].pop("original_bits")
        ),
        "original_bits_negative": put("settings", "original_bits", value=-1),
        "original_bits_too_fine": put("settings", "original_bits", value=1.5001),
        "original_bits_too_large": put("settings", "original_bits", value=64.001),
        "original_bits_disagrees_with_sizes": put("settings", "original_bits", value=1.25),
        "original_without_room": put("settings", "original_bits", value=0),
        "exact_bits_missing": lambda: rebuild(
            good, lambda body: body["settings"].pop("exact_bits")
        ),
        "exact_bits_is_twelve": put("settings", "exact_bits", value=12),
        "exact_bits_is_three": put("settings", "exact_bits", value=3),
        "exact_bits_is_true": put("settings", "exact_bits", value=True),
        "exact_bits_without_section": put("settings", "exact_bits", value=1),
        "room_without_original": lambda: without_original(good),
        "height_zero": put("geometry", "height", value=0),
        "height_is_true": put("geometry", "height", value=True),
        "too_many_samples": put("geometry", "frames", value=1 << 20),
        "billions_of_tiles": lambda: rebuild(
            good,
            lambda body: body["geometry"].update(
                height=1 << 17, width=1 << 17, stride=1, tile=4, code_maps=1
            ),
        ),
        "format_is_true": put("format", value=True),
        "tile_cuts_a_block": put("geometry", "tile", value=30),
        "too_many_atoms": put("geometry", "code_maps", value=4096),
        "geometry_disagrees_with_sizes": put("geometry", "height", value=400),
        "section_missing": sections(lambda s: s.pop(1)),
        "section_twice": sections(lambda s: s.insert(1, s[1])),
        "section_unknown": sections(lambda s: s[0].update(name="extra")),
        "sections_out_of_order": sections(lambda s: s.insert(0, s.pop(1))),
        "section_digest_wrong": sections(lambda s: s[4].update(sha256="0" * 64)),
        "section_too_long": sections(lambda s: s[5].update(bytes=s[5]["bytes"] + 1)),
        "sealed_header_not_compressed": sealed_header(
            lambda packed: b'{"name": "phantom.tif"}\n{}'
        ),
        "sealed_header_cut_off": sealed_header(lambda packed: packed[:-1]),
        "sealed_header_trailing_data": sealed_header(lambda packed: packed + b"\0"),
        "sealed_header_without_name": sealed_header(lambda packed: zlib.compress(b"{}\n{}")),
        "sealed_header_line_too_long": sealed_header(
            lambda packed: zlib.compress(
                b'{"name": "x.tif", "padding": null' + b" " * (1 << 16) + b"}\n{}"
            )
        ),
        "sealed_header_without_padding": sealed_header(
            lambda packed: zlib.compress(b'{"name": "phantom.tif"}\n{}')
        ),
        "sealed_padding_cut_off": sealed_header(
            lambda packed: zlib.compress(
                b'{"name": "x.tif", "padding": {"declared": null, "values": 1}}\n{}'
            )
        ),
        "values_altered_with_their_digest": lambda: altered(good, "public", 0),
        "header_padding_not_zero": padding(
            "header", "diagnostic", lambda padded: padded[:-1] + b"\1"
        ),
        "original_padding_not_zero": padding(
            "original", "original", lambda padded: padded[:-1] + b"\1"
        ),
        "original_longer_than_its_room": padding(
            "original", "original", lambda padded: b"\xff" * 8 + padded[8:]
        ),
    }
    return {name: make() for name, make in cases.items()} | {
        f"{name}_altered": altered(good, name)
        for name in ("info", "index", "supports", "header", "original")
    }


def manifest() -> bytes:
    """A good manifest, signed by the vectors' owner."""
    signer = _signer(_x25519(OWNER, "vectors"))
    entries = (Entry(1000, "0" * 31 + "1", "a" * 64), Entry(2000, "0" * 31 + "2", "b" * 64))
    plain = Manifest(
        "c" * 32, 3, "e" * 32, "2024-01-31T12:00:00Z", "d" * 64, entries, signer.public
    )
    return signed(plain.write())


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
        return signed(canonical(body | fields) + b"\n")

    def bytes_changed(change):
        return signed(change(text))

    signer, _, signature = line.partition(b" ")
    first, second = body["bundles"]
    return {
        "no_newline": bytes_changed(lambda t: t[:-1]),
        "with_spaces": bytes_changed(lambda t: t.replace(b":", b": ", 1)),
        "key_twice": bytes_changed(lambda t: t.replace(b'"format":1', b'"format":1,"format":1')),
        "no_signature_line": text,
        "signature_cut_off": line[:-2] + b"\n" + text,
        "signature_upper_case": signer + b" " + signature.upper() + b"\n" + text,
        "signature_of_another": line + b"\n" + canonical(body | {"version": 4}) + b"\n",
        "signer_replaced": b"e" * 64 + b" " + signature + b"\n" + text,
        "unknown_field": put(comment="x"),
        "format_2": put(format=2),
        "bundles_out_of_order": put(bundles=[second, first]),
        "bundle_twice": put(bundles=[first, first]),
        "format_is_true": put(format=True),
        "version_zero": put(version=0),
        "version_is_text": put(version="3"),
        "keys_missing": signed(canonical({k: v for k, v in body.items() if k != "keys"}) + b"\n"),
        "keys_short": put(keys="e" * 31),
        "bundles_is_text": put(bundles=""),
        "created_has_a_newline": put(created="2024-01-31T12:00:00Z\nsigner: trusted"),
        "created_is_a_lone_surrogate": put(created="\ud800"),
    }


def main() -> None:
    """Write all files."""
    for kind in ("bundles", "manifests"):
        (VECTORS / kind).mkdir(parents=True, exist_ok=True)
        for old in (VECTORS / kind).iterdir():
            old.unlink()
    if not (VECTORS / "tiny.safetensors").exists():
        tiny_model()
    codec = Codec(read_checkpoint(VECTORS / "tiny.safetensors"))
    shared = share_image(
        phantom(), SETTINGS, image_secrets(), codec,
        bundle_id=BUNDLE_ID, name="phantom.tif", original=b"the original file", draw=fixed_draw,
    )  # fmt: skip
    (VECTORS / "bundles" / "good.primis").write_bytes(shared.data)
    for name, data in bad_bundles(shared.data).items():
        (VECTORS / "bundles" / f"{name}.primis").write_bytes(data)
    good = manifest()
    (VECTORS / "manifests" / "good.json").write_bytes(good)
    for name, data in bad_manifests(good).items():
        (VECTORS / "manifests" / f"{name}.json").write_bytes(data)
    restored = restore_image(
        shared.data, image_secrets(), "diagnostic", lambda digest: codec, group="vectors"
    )
    header, parts = read_bundle(shared.data, "good")
    facts = {
        "bundle_id": BUNDLE_ID,
        "release_secret": RELEASE_SECRET.value.hex(),
        "image_secrets": {tier: secret.value.hex() for tier, secret in image_secrets().items()},
        "binding": header.binding.hex(),
        "public_sha256": hashlib.sha256(parts["public"]).hexdigest(),
        "shape": list(restored.image.shape) if restored.image else None,
    }
    (VECTORS / "good.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
