"""A good manifest, and those that are wrong, by the name of the failure."""

from __future__ import annotations

import json
from dataclasses import replace

import rfc8785

from primis.bundle.manifest import (
    CatalogueListing,
    Entry,
    Listing,
    Manifest,
    SignedManifest,
    list_bundles,
    manifest_message,
)
from primis.bundle.settings import Profile
from primis.canonical import canonical
from primis.keys.identity import _signer, _x25519
from tests.make_vectors.known import (
    OWNER,
    SETTINGS,
)


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
