"""Grants of regions: what they open, what they leave shut, and what is fetched for them."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow

import primis
from primis.bundle.header import INFO_BASE, INFO_PER_FRAME
from primis.bundle.settings import Settings
from primis.canonical import canonical
from primis.cli.main import main
from primis.errors import (
    BadGrant,
    DamagedSection,
    InputError,
    NoRegion,
    NotCovered,
    TierTooLow,
    UsageError,
)
from primis.imaging.files import parse
from primis.imaging.phantom import draw_phantom
from primis.imaging.region import Region
from primis.jobs.add import add
from primis.jobs.rekey.renew import opens_of
from primis.jobs.rekey.run import rekey
from primis.jobs.restore import restore
from primis.keys.grant import SignedGrant, read_grant, split_grant
from primis.keys.identity import parse_recipient, read_identities, read_signer
from primis.keys.seal import mask, unseal
from primis.keys.tier import Tier
from primis.release.grants import make_grant
from primis.release.owner import grant, owner_scope
from primis.release.reader import Release
from primis.sharing.fit import tile_positions
from primis.sharing.region import REACH, Box, open_region
from tests.conftest import TINY
from tests.documented import blocks, commands, lay_out_images, reader
from tests.hosts import web_host

TILE = 64
REGION = (70, 140, 100, 60)
"""Touches tiles 1 to 2 across and 2 to 3 down of an image of 5 x 4."""

SHARE = {"settings": Settings(sparsity=4.0, tile=TILE), "model": TINY}


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """An image of 300 x 250 pixels, one of three frames, and a mask."""
    folder = tmp_path_factory.mktemp("sources")
    pixels = (draw_phantom(320)[:250, :300] >> 4).astype(np.uint8)
    Pillow.fromarray(pixels).save(folder / "one.png")
    frames = [Pillow.fromarray(np.roll(pixels, 40 * n, 1)) for n in range(3)]
    frames[0].save(folder / "three.tif", save_all=True, append_images=frames[1:])
    Pillow.fromarray((pixels > 90).astype(np.uint8) * 255).save(folder / "mask.png")
    return folder


@pytest.fixture
def release(sources, keys, tmp_path) -> Path:
    """All for alice."""
    alice = read_signer(keys["alice"]).recipient.text
    out = tmp_path / "release"
    results = primis.share([sources], out, to=alice, owner=keys["owner"], **SHARE)
    assert not [r for r in results if r.error]
    return out


def give(release: Path, keys, image: str, region=REGION, **options) -> list[str]:
    bob = read_signer(keys["bob"]).recipient.text
    return primis.grant(
        release, to=bob, images=[image], region=region, owner=keys["owner"], **options
    )


def opened(release: Path | str, key: Path) -> primis.OpenRelease:
    return primis.open(release, key, models=[TINY])


def of_bob(release: Path, keys, name: str = "one.png") -> primis.ReleaseImage:
    [image] = opened(release, keys["bob"])
    assert image.id == opened(release, keys["alice"])[name].id
    return image


def cut(pixels: np.ndarray, region=REGION) -> np.ndarray:
    x, y, width, height = region[:4]
    return pixels[:, y : y + height, x : x + width]


def test_a_holder_of_all_reads_a_region_as_it_is_in_the_whole(release, keys) -> None:
    for image in opened(release, keys["alice"]):
        for tier in ("preview", "diagnostic"):
            part = image.read(tier, region=REGION)
            assert np.array_equal(part.pixels, cut(image.read(tier).pixels))
            assert part.header == b""


def test_frames_of_a_region_are_chosen(release, keys) -> None:
    image = opened(release, keys["alice"])["three.tif"]
    whole = image.read().pixels
    for frames, expected in ((1, whole[1:2]), (slice(1, 3), whole[1:3]), (-1, whole[2:])):
        assert np.array_equal(image.read(region=REGION, frames=frames).pixels, cut(expected))
    assert np.array_equal(image.read(region=(*REGION, 1, 1)).pixels, cut(whole[1:2]))
    with pytest.raises(UsageError, match='frames "7"'):
        image.read(region=REGION, frames=7)


def test_a_region_grant_opens_the_region(release, keys) -> None:
    give(release, keys, "one.png")
    image = of_bob(release, keys)
    assert image.name is None
    assert image.region == (*REGION, 0, 0)
    assert image.quality is None
    whole = cut(opened(release, keys["alice"])["one.png"].read().pixels).astype(int)
    part = image.read().pixels
    assert part.shape == whole.shape
    error = np.abs(part - whole)
    assert error.mean() < 4  # the tiles around it are shut
    assert np.array_equal(image.read(region=(80, 150, 20, 10)).pixels, cut(part, (10, 10, 20, 10)))


def test_it_opens_no_more_of_the_image(release, keys, sources) -> None:
    give(release, keys, "three.tif", (*REGION, 1, 2))
    image = of_bob(release, keys, "three.tif")
    assert image.read().pixels.shape == (2, 60, 100, 1)
    assert image.read(frames=1).pixels.shape == (1, 60, 100, 1)
    for asked in ((0, 0, 10, 10), (69, 140, 10, 10), (70, 140, 101, 60)):
        with pytest.raises(NotCovered, match=f'region "{",".join(map(str, asked))},1-2"'):
            image.read(region=asked)
    with pytest.raises(NotCovered, match="1-2"):
        image.read(frames=0)
    with pytest.raises(NotCovered, match="0-1"):
        image.read(region=(*REGION, 0, 1))
    with pytest.raises(NotCovered, match="in part"):
        image.codes()
    with pytest.raises(UsageError, match="texture"):
        image.read(texture=True)
    with pytest.raises(TierTooLow):
        image.file("original")
    file = parse(image.file())
    assert (file.kind, file.shape) == ("tiff", (2, 60, 100, 1))


def test_at_tier_preview_it_opens_the_preview_of_the_region(release, keys) -> None:
    give(release, keys, "one.png", tier="preview")
    image = of_bob(release, keys)
    assert set(image._release.grants[0].regions[image.id].tiles) == {Tier.PREVIEW}
    preview = cut(opened(release, keys["alice"])["one.png"].read("preview").pixels)
    assert np.abs(image.read().pixels.astype(int) - preview).mean() < 4
    with pytest.raises(TierTooLow):
        image.read("diagnostic")


def offered(grant_) -> list:
    """Every secret of a grant."""
    [region] = grant_.regions.values()
    return [secret for tiles in region.tiles.values() for secret in tiles.values()]


def test_no_secret_of_it_opens_another_part(release, keys) -> None:
    """Each secret opens the index record and the support of its own tile, and nothing besides."""
    give(release, keys, "three.tif", (*REGION, 1, 1))
    image = of_bob(release, keys, "three.tif")
    there = Release(release)
    [held] = there.open_grants(read_identities(keys["bob"]))
    assert held.secret is None
    assert held.images == {}
    header, parts = there.sections(image.id)
    records, box = header.records, Box.around(header.geometry, Region(*REGION))
    tiles = header.geometry.tile_count
    mine = {tiles + r.number % tiles for r in box.records(header, Tier.DIAGNOSTIC)}
    assert len(mine) == 4
    assert {n for tiles_ in held.regions[image.id].tiles.values() for n in tiles_} == mine
    size, opens = 52, []
    for secret in offered(held):
        for name in ("info", "header"):
            with pytest.raises(DamagedSection):
                unseal(parts[name], secret, name, header.binding)
        for record in range(3 * records):
            sealed = parts["index"][record * size : (record + 1) * size]
            try:
                unseal(sealed, secret, "index", header.binding)
            except DamagedSection:
                continue
            opens.append(record)
    frame = [record - records for record in opens]
    assert sorted(frame) == sorted(r.number for r in box.records(header, Tier.DIAGNOSTIC))


def test_what_it_does_not_open_looks_random_to_its_holder(release, keys) -> None:
    """Under every key that it holds: no two streams agree more than random ones do."""
    give(release, keys, "one.png")
    image, there = of_bob(release, keys), Release(release)
    [held] = there.open_grants(read_identities(keys["bob"]))
    header, parts = there.sections(image.id)
    bundle = opened(release, keys["alice"])[image.id]._opened(None)[1]
    shut = [
        n for n in range(header.records) if n % 20 not in held.regions[image.id].tiles["preview"]
    ]
    for number in shut:
        tier = Tier.PREVIEW if number < 20 else Tier.DIAGNOSTIC
        own = bundle.tile_secret(tier, number % 20)
        record = bundle.record(0, number, own)
        run = parts["public"][record.at : record.at + record.length]
        true = mask(run, own)
        for secret in offered(held):
            guess = mask(run, secret)
            same = np.unpackbits(np.frombuffer(guess, np.uint8) ^ np.frombuffer(true, np.uint8))
            assert len(same) < 64 or abs(same.mean() - 0.5) < 4 / len(same) ** 0.5


def test_the_pixels_of_other_tiles_are_not_there(release, keys, monkeypatch) -> None:
    """Whoever changes the reader to ask for more gets no secret for it."""
    give(release, keys, "one.png")
    image = of_bob(release, keys)
    _, bundle = image._opened(None)
    held = set(bundle.region.tiles[Tier.PREVIEW])
    assert held == {11, 12, 16, 17}
    for number in range(20):
        for tier in (Tier.PREVIEW, Tier.DIAGNOSTIC):
            if number not in held:
                with pytest.raises(NotCovered, match=f"tile {number}"):
                    bundle.tile_secret(tier, number)
    with pytest.raises(TierTooLow):
        bundle.unseal("info")


def test_it_says_of_other_frames_nothing(release, keys) -> None:
    """What frames need besides their code is in the grant, and `info` stays shut."""
    give(release, keys, "three.tif", (*REGION, 1, 1))
    image = of_bob(release, keys, "three.tif")
    [held] = Release(release).open_grants(read_identities(keys["bob"]))
    info = held.regions[image.id].info
    assert len(info) == INFO_BASE + INFO_PER_FRAME
    assert info[20:26] == bytes(6)  # neither PSNR nor SSIM, which tell of all of the image


def test_restore_writes_the_region(release, keys, tmp_path) -> None:
    give(release, keys, "one.png")
    [result] = primis.restore(release, tmp_path / "bob", identity=keys["bob"], models=[TINY])
    assert result.error is None
    part = parse((tmp_path / "bob" / result.name).read_bytes())
    assert np.array_equal(part.pixels, of_bob(release, keys).read().pixels)
    results = primis.restore(
        release, tmp_path / "alice", identity=keys["alice"], models=[TINY], region="70,140,100,60"
    )
    assert sorted(r.name for r in results) == ["mask.png", "one.png", "three.tif"]
    for r in results:
        assert parse((tmp_path / "alice" / r.name).read_bytes()).shape[1:3] == (60, 100)
    [failed] = primis.restore(
        release, tmp_path / "more", identity=keys["bob"], models=[TINY], region=(0, 0, 9, 9)
    )
    assert isinstance(failed.error, NotCovered)
    with pytest.raises(UsageError, match="original"):
        primis.restore(
            release, tmp_path / "x", identity=keys["alice"], region=REGION, tier="original"
        )


def test_a_dicom_region_has_no_header_of_its_source(images, keys, tmp_path) -> None:
    to, out = read_signer(keys["alice"]).recipient.text, tmp_path / "dicom"
    primis.share([images], out, to=to, owner=keys["owner"], **SHARE)
    image = opened(out, keys["alice"])["chest-1.dcm"]
    give(out, keys, image.id, (10, 20, 40, 30))
    [other] = opened(out, keys["bob"])
    file = pydicom.dcmread(BytesIO(other.file()))
    assert (file.Rows, file.Columns) == (30, 40)
    assert "ImagePositionPatient" not in file
    assert not file.get("PatientName")
    assert "region 10,20,40,30,0-0" in file.DerivationDescription


def test_of_two_regions_one_is_restored_and_the_other_told(release, keys, tmp_path) -> None:
    give(release, keys, "one.png")
    give(release, keys, "one.png", (0, 0, 64, 64))
    there = Release(release)
    identities = read_identities(keys["bob"])
    [result] = restore(there, identities, tmp_path / "out", models=(TINY,))
    assert result.error is None
    [said] = [note for note in there.notes if "another grant opens" in note]
    assert '"0,0,64,64,0-0"' in said
    again = Release(release)
    restore(again, identities, tmp_path / "a", models=(TINY,), region=Region(0, 0, 64, 64))
    assert not [note for note in again.notes if "another grant opens" in note]


def test_the_better_grant_is_taken(release, keys) -> None:
    """A region asked for is read by the grant that holds it; else all of an image comes first."""
    give(release, keys, "one.png")
    give(release, keys, "one.png", (0, 0, 64, 64))
    [image] = opened(release, keys["bob"])
    assert image.region in ((*REGION, 0, 0), (0, 0, 64, 64, 0, 0))
    assert image.read(region=(3, 4, 10, 10)).pixels.shape == (1, 10, 10, 1)
    assert image.read(region=REGION).pixels.shape == (1, 60, 100, 1)
    bob = read_signer(keys["bob"]).recipient.text
    primis.grant(release, to=bob, tier="preview", images=["one.png"], owner=keys["owner"])
    [image] = opened(release, keys["bob"])
    assert (image.tier, image.region) == ("preview", None)
    assert image.read("diagnostic", region=REGION).pixels.shape == (1, 60, 100, 1)


def test_rekey_renews_regions_and_widens_none(release, keys, signer) -> None:
    give(release, keys, "three.tif", (*REGION, 0, 1))
    before = of_bob(release, keys, "three.tif")
    [was] = Release(release).open_grants(read_identities(keys["bob"]))
    done = rekey(Release(release), signer)
    assert len(done.renewed) == 2
    assert not done.dropped
    after = of_bob(release, keys, "three.tif")
    [now] = Release(release).open_grants(read_identities(keys["bob"]))
    assert after.id != before.id
    assert after.region == before.region
    assert after.read().pixels.shape == (2, 60, 100, 1)
    assert {s.value for s in offered(now)}.isdisjoint(s.value for s in offered(was))
    [new], [old] = now.regions.values(), was.regions.values()
    assert (new.info, new.region) == (old.info, old.region)
    assert {t: set(x) for t, x in new.tiles.items()} == {t: set(x) for t, x in old.tiles.items()}


def test_a_region_counts_as_less_than_its_image(release, keys, signer) -> None:
    give(release, keys, "one.png")
    [part] = Release(release).open_grants(read_identities(keys["bob"]))
    [bundle_id] = part.regions
    bob = parse_recipient(read_signer(keys["bob"]).recipient.text)
    scope = owner_scope(Release(release), signer)
    whole = make_grant(scope, bob, signer, Tier.DIAGNOSTIC, [bundle_id])
    assert opens_of(part) != opens_of(whole)


def test_the_length_of_its_file_is_a_power_of_two(release, keys, signer) -> None:
    give(release, keys, "one.png")
    bob = read_identities(keys["bob"])[0]
    payloads = [bob.decrypt(file.data) for file in Release(release).grants()]
    [payload] = [payload for payload in payloads if payload is not None]
    assert len(payload) in (2048, 4096)
    signed = split_grant(payload, "it")
    body = json.loads(signed.body)
    assert body["secret"] is None
    assert body["images"] == {}
    [opened_] = body["regions"].values()
    assert opened_["region"] == [*REGION, 0, 0]
    assert {t: sorted(x) for t, x in opened_["tiles"].items()} == {
        "diagnostic": ["11", "12", "16", "17"],
        "preview": ["11", "12", "16", "17"],
    }


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.update(region=[0, 0, 0, 5, 0, 0]),
        lambda r: r.update(region=[0, 0, 5, 5, 2, 1]),
        lambda r: r.update(region=[0, 0, 5, 5]),
        lambda r: r.update(region=[0, 0, True, 5, 0, 0]),
        lambda r: r.update(tiles={"preview": r["tiles"]["preview"]}),
        lambda r: r["tiles"]["preview"].update({"07": "ab" * 32}),
        lambda r: r["tiles"]["preview"].update({"7": "ab"}),
        lambda r: r["tiles"].update(preview={}),
        lambda r: r.pop("info"),
        lambda r: r.update(info=f"{r['info']} "),
        lambda r: r["tiles"]["preview"].update({"7": "AB" * 32}),
    ],
)
def test_a_grant_with_a_malformed_region_is_refused(release, keys, signer, spoil) -> None:
    give(release, keys, "one.png")
    [held] = Release(release).open_grants(read_identities(keys["bob"]))
    body = held._body()
    [region] = body["regions"].values()
    spoil(region)
    with pytest.raises(BadGrant):
        read_grant(SignedGrant(held.signer, canonical(body)), "it")


def test_a_region_beyond_its_tiles_is_an_error(release, keys) -> None:
    """An owner's software may be wrong: a reader neither crashes nor shows what it lacks."""
    give(release, keys, "one.png")
    image = of_bob(release, keys)
    [held] = image._release.grants
    [opened_] = held.regions.values()
    held.regions[image.id] = replace(opened_, region=Region(0, 0, 300, 250, 0, 0))
    with pytest.raises(NotCovered, match="tile 0"):
        image.read()
    held.regions[image.id] = replace(opened_, info=opened_.info[:-1])
    with pytest.raises(DamagedSection, match="malformed"):
        image.read()


def test_what_has_no_regions_is_refused(release, sources, keys, tmp_path) -> None:
    with pytest.raises(NoRegion, match="sample by sample"):
        give(release, keys, "mask.png")
    with pytest.raises(NoRegion, match="original"):
        give(release, keys, "one.png", tier="original")
    sca, to = tmp_path / "sca", read_signer(keys["alice"]).recipient.text
    settings = Settings(sparsity=4.0, tile=TILE, protection="sca")
    primis.share(
        [sources / "one.png"], sca, to=to, owner=keys["owner"], model=TINY, settings=settings
    )
    with pytest.raises(NoRegion, match="level sca"):
        give(sca, keys, "one.png")
    image = opened(sca, keys["alice"])["one.png"]
    assert np.array_equal(image.read(region=REGION).pixels, cut(image.read().pixels))


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("300,0,5,5", NoRegion, 'region "300,0,5,5" lies outside'),
        ("0,250,5,5", NoRegion, 'region "0,250,5,5" lies outside'),
        ("0,0,5,5,1-2", NoRegion, 'region "0,0,5,5,1-2" lies outside'),
        ("0,0,0,5", UsageError, 'region "0,0,0,5" has no pixels'),
        ("0,0,5,5,2-1", UsageError, 'region "0,0,5,5,2-1" has no frames'),
        ("lung", UsageError, 'region "lung" is none'),
        ("-1,0,5,5", UsageError, 'region "-1,0,5,5" is none'),
        ("1,2,3", UsageError, 'region "1,2,3" is none'),
        ("1.5,2,3,4", UsageError, 'region "1.5,2,3,4" is none'),
        ("9" * 30 + ",0,1,1", UsageError, "is none"),
        ((1, 2, 3), UsageError, "is none"),
        ((-1, 2, 3, 4), UsageError, "is none"),
    ],
)
def test_what_is_no_region_is_told_in_a_line(release, keys, text, kind, said) -> None:
    with pytest.raises(kind) as caught:
        give(release, keys, "one.png", text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_region_is_clipped_to_the_image(release, keys) -> None:
    give(release, keys, "one.png", "280,200,1000,1000")
    assert of_bob(release, keys).region == (280, 200, 20, 50, 0, 0)
    assert of_bob(release, keys).read().pixels.shape == (1, 50, 20, 1)


def test_without_an_image_there_is_no_region(release, keys) -> None:
    with pytest.raises(UsageError, match="of no image"):
        primis.grant(
            release,
            to=read_signer(keys["bob"]).recipient.text,
            region=REGION,
            owner=keys["owner"],
        )


def test_a_grant_of_a_region_tells_what_it_opens(release, keys, signer) -> None:
    """Whole tiles, as far as the image goes."""
    told: list[str] = []
    with primis.open(release, keys["owner"], models=[TINY]) as opened:
        image = opened["one.png"].id
    grant(
        Release(release),
        parse_recipient(f"bob={read_signer(keys['bob']).recipient.text}"),
        signer,
        images=[image],
        region=Region(70, 140, 100, 60),
        on_opens=lambda image, opened: told.append(str(opened)),
    )
    assert told == ["64,128,128,122"]


def test_the_command_line(release, keys, tmp_path, monkeypatch, capsys) -> None:
    def run(*words: str, code: int = 0) -> str:
        monkeypatch.setattr("sys.argv", ["primis", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err
        return said.out if code == 0 else said.err

    place, owner = str(release), ("--owner", str(keys["owner"]))
    bob, region = f"bob={read_signer(keys['bob']).recipient.text}", "70,140,100,60"
    give_it = ("grant", place, "--to", bob, *owner, "--region", region)
    assert "--region needs --image" in run(*give_it, code=2)
    original = ("--image", "one.png", "--tier", "original")
    assert "which has no regions" in run(*give_it, *original, code=2)
    assert f"granted region {region} of 1 image up to tier" in run(*give_it, "--image", "one.png")
    seen = json.loads(run("inspect", place, "-i", str(keys["bob"]), "--json"))
    assert [*seen["opened"][0]["regions"].values()] == [f"{region},0-0"]
    out = str(tmp_path / "out")
    model = ("--model", str(TINY))
    run("restore", place, "-i", str(keys["bob"]), "-o", out, *model)
    [file] = Path(out).iterdir()
    assert parse(file.read_bytes()).shape == (1, 60, 100, 1)
    out = str(tmp_path / "part")
    run("restore", place, "-i", str(keys["alice"]), "-o", out, *model, "--region", "1,2,30,40")
    assert len(list(Path(out).iterdir())) == 3
    bad = ("restore", place, "-i", str(keys["bob"]), "-o", str(tmp_path / "no"), *model)
    assert 'region "0,0,9,9,0-0" is not opened' in run(*bad, "--region", "0,0,9,9", code=1)
    assert 'region "all" is none' in run(*bad, "--region", "all", code=2)
    new = ("share", str(release), "--to", bob, *owner, "-o", str(tmp_path / "r"), "--tile")
    for tile in ("0", "100", "8192"):
        assert f'--tile is "{tile}", expected a multiple of 64' in run(*new, tile, code=2)


def test_tiles_are_as_large_as_was_asked_for(sources, keys, tmp_path) -> None:
    to = read_signer(keys["alice"]).recipient.text
    one, shapes = sources / "one.png", {}
    for tile in (64, 128, 512):
        out = tmp_path / f"tiles-{tile}"
        settings = Settings(sparsity=4.0, tile=tile)
        primis.share([one], out, to=to, owner=keys["owner"], model=TINY, settings=settings)
        there = Release(out)
        header = there.header(there.ids[0])
        assert (header.geometry.tile, header.settings.tile) == (tile // 16, tile)
        shapes[tile] = header.records
        assert opened(out, keys["alice"])["one.png"].read().pixels.shape == (1, 250, 300, 1)
    assert shapes == {64: 40, 128: 12, 512: 2}
    add(
        Release(tmp_path / "tiles-64"),
        [sources / "three.tif"],
        read_signer(keys["owner"]),
        models=(TINY,),
    )
    there = Release(tmp_path / "tiles-64")
    assert {there.header(i).settings.tile for i in there.ids} == {64}


def test_a_tile_that_cannot_be_is_told(codec) -> None:
    assert tile_positions(512, codec) == 32
    for pixels in (0, 63, 96, 8192):
        with pytest.raises(InputError, match=f'tile "{pixels}"'):
            tile_positions(pixels, codec)


def test_sizes_do_not_depend_on_what_is_in_an_image(keys, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for name, pixels in (
        ("flat", np.full((250, 300), 7)),
        ("wild", rng.integers(0, 256, (250, 300))),
    ):
        Pillow.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{name}.png")
    to, sizes = read_signer(keys["alice"]).recipient.text, set()
    for name in ("flat", "wild"):
        out = tmp_path / name
        primis.share(
            [tmp_path / f"{name}.png"],
            out,
            to=to,
            owner=keys["owner"],
            model=TINY,
            settings=Settings(tile=TILE, exact_bits=0, header_bytes=256),
        )
        sizes.add(Release(out).entry(Release(out).ids[0]).size)
    assert len(sizes) == 1


def test_an_image_grant_and_a_region_grant_do_not_mix_up(release, keys, signer) -> None:
    """One file may hold both, of different images."""
    there = Release(release)
    scope = owner_scope(there, signer)
    one, two = sorted(there.ids)[:2]
    give(release, keys, "one.png")
    [part] = Release(release).open_grants(read_identities(keys["bob"]))
    [bundle_id] = part.regions
    other = next(i for i in (one, two) if i != bundle_id)
    both = make_grant(
        scope,
        parse_recipient(read_signer(keys["bob"]).recipient.text),
        signer,
        Tier.DIAGNOSTIC,
        [other],
        regions=part.regions,
    )
    again = read_grant(split_grant(_payload(both, signer), "both"), "both")
    assert again.covers_whole(other)
    assert not again.covers_whole(bundle_id)
    assert again.covers(bundle_id)
    with pytest.raises(NotCovered):
        again.image_secrets(bundle_id)


def _payload(grant_, signer) -> bytes:
    return signer.identity.decrypt(grant_.seal(signer.recipient, signer))


def test_the_tiles_of_a_region_are_those_that_it_touches(release, keys, signer) -> None:
    image = opened(release, keys["alice"])["one.png"]
    _, bundle = image._opened(None)
    for region, expected in (
        (Region(0, 0, 64, 64), {0}),
        (Region(63, 63, 2, 2), {0, 1, 5, 6}),
        (Region(256, 192, 44, 58), {19}),
    ):
        assert set(open_region(bundle, region, Tier.PREVIEW).tiles[Tier.PREVIEW]) == expected
    assert REACH >= 12


def test_of_a_tenth_of_a_mammogram_little_is_fetched(keys, tmp_path) -> None:
    """At most 15 % of the bundle's bytes on average, where detail is even; of an image that has as
    many tiles as a mammogram of 4608 x 3072 pixels has with `--tile 128`."""
    small = np.random.default_rng(0).integers(0, 256, (2304 // 6, 1536 // 6), dtype=np.uint8)
    grains = Pillow.fromarray(small).resize((1536, 2304), Pillow.Resampling.BICUBIC)
    grains.save(tmp_path / "mammogram.png")
    www = tmp_path / "www"
    out, to = www / "release", read_signer(keys["alice"]).recipient.text
    fine = {**SHARE, "settings": Settings(sparsity=16.0, tile=TILE)}
    primis.share(
        [tmp_path / "mammogram.png"], out, to=to, owner=keys["owner"], measure=False, **fine
    )
    [bundle_id] = Release(out).ids
    size = Release(out).entry(bundle_id).size
    width, height = int(1536 * 0.1**0.5), int(2304 * 0.1**0.5)
    shares = []
    with web_host(www) as host:
        for x, y in ((0, 0), (500, 750), (1000, 300), (200, 1500)):
            give(out, keys, bundle_id, (x, y, width, height))
            image = opened(f"{host.url}/release", keys["bob"])[bundle_id]
            host.forget()
            part = image.read(region=(x, y, width, height))
            assert part.pixels.shape == (1, height, width, 1)
            shares.append((host.sent - 1024) / size)
        whole = opened(f"{host.url}/release", keys["alice"])[bundle_id]
        host.forget()
        whole.read(region=(500, 750, width, height))
        assert host.sent < 0.5 * size
    assert np.mean(shares) <= 0.15
    assert max(shares) <= 0.17


def test_a_region_is_restored_from_a_web_host_by_other_processes(release, keys, tmp_path) -> None:
    """They fetch nothing themselves: all that they read was fetched before."""
    give(release, keys, "three.tif", (*REGION, 1, 2), tier="preview")
    with web_host(release.parent) as host:
        for who, options in (("bob", {}), ("alice", {"region": REGION})):
            for jobs in (1, 2):
                results = primis.restore(
                    f"{host.url}/release",
                    tmp_path / f"{who}-{jobs}",
                    identity=keys[who],
                    models=[TINY],
                    jobs=jobs,
                    **options,
                )
                assert [r.error for r in results] == [None] * (3 if who == "alice" else 1)
            one, two = (
                {f.name: f.read_bytes() for f in (tmp_path / f"{who}-{jobs}").iterdir()}
                for jobs in (1, 2)
            )
            assert one == two


def test_the_page_on_regions_runs_as_it_stands(tmp_path, capsys) -> None:
    page = "docs/how-to/regions.md"
    listed, [program] = commands(page), blocks(page, "python")
    assert len(listed) == 4
    lay_out_images(tmp_path, count=2)
    with reader(tmp_path, capsys) as call:
        for name in ("alice", "bob"):
            call("keygen", "-o", f"{name}.key")
        for command in listed:
            call(*command.words)
        there: dict[str, object] = {}
        exec(compile(program, page, "exec"), there)
    part, detail = (there[name].pixels for name in ("part", "detail"))
    assert (part.shape, detail.shape) == ((1, 50, 60, 1), (1, 20, 20, 1))
    [of_bob] = (tmp_path / "part").iterdir()
    assert of_bob.stem == there["image"].id
    [same] = (tmp_path / "same-part").iterdir()
    assert np.array_equal(parse(same.read_bytes()).pixels, part)
