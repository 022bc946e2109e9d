"""`primis share`: a new release of images, granted to recipients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primis.bundle.settings import (
    MAX_HEADER_BYTES,
    MAX_ORIGINAL_BITS,
    MIN_HEADER_BYTES,
    Protection,
    Settings,
)
from primis.cli.arguments import (
    Owner,
    asks_for,
    open_signer,
    parse_path,
    parse_place,
    parse_recipients,
    refusing,
    require_between,
    require_one_way,
    require_place,
    show_size,
)
from primis.cli.fidelity import (
    LEAST_PSNR,
    LeastPsnr,
    NoMeasure,
    fidelity_facts,
    quality_facts,
    require_measured,
    warn_of_losses,
    with_receipt,
)
from primis.cli.known import open_release
from primis.cli.labels import LabelTable
from primis.cli.options import (
    Dask,
    DaskInsecure,
    FramesAlone,
    Header,
    HeaderKept,
    Jobs,
    Json,
    Lossless,
    MaxPixels,
    NoSeries,
    Shard,
    Tier,
    To,
    Verbose,
)
from primis.cli.say import note, result, warn
from primis.errors import OutputError, StoreError, UsageError
from primis.keys.tier import Tier as TierName
from primis.stores.places import is_url

if TYPE_CHECKING:
    from primis.jobs.result import Result
    from primis.jobs.shards import Shard as Part
    from primis.jobs.share.look import Identifying
    from primis.jobs.share.quality import Chosen

_TILE_STEP, _LARGEST_TILE = 64, 4096
"""Pixels: four positions of the grid, and as many as a model's atoms leave room for."""

_NAMED = 6
"""Header elements that are named in a line."""

EXAMPLES = (
    "primis share xrays --to partner=partner.key.pub -o release",
    "primis share a.dcm b.png --to age1... --to alice=id_ed25519.pub -o release",
    "primis share mr --to partner=partner.key.pub -o release --sparsity 16 --with-original",
    "primis share xrays --to passphrase --tier preview -o release",
    "primis share xrays --to partner=partner.key.pub -o release --psnr 42",
    "primis share xrays --to partner=partner.key.pub -o release --labels table.csv",
    "primis share xrays --to partner=partner.key.pub -o release --shard 3/8",
    "primis share slides --to partner=partner.key.pub -o release --tile 256",
)


def share(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Files and folders.", parser=parse_path)
    ],
    to: To,
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            metavar="RELEASE",
            help="New folder, or a place in a bucket (s3://, gs://, az://).",
            parser=parse_place,
        ),
    ],
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=32,
            help="Quality. S_x: coefficients kept per block of 16 x 16 pixels, on average. "
            "(default: 8)",
        ),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option(
            metavar="DB",
            min=10,
            max=100,
            help="In place of --sparsity: the smallest S_x at which 95 % of the images reach this "
            "PSNR, on their own range. Measured on at most 64 images, drawn at random.",
        ),
    ] = None,
    least_psnr: LeastPsnr = None,
    no_measure: NoMeasure = False,
    labels: LabelTable = None,
    tier: Tier = None,
    with_original: Annotated[
        bool, typer.Option("--with-original", help="Seal the file itself too: tier original.")
    ] = False,
    protection: Annotated[
        Protection, typer.Option(help="sca is the paper's level: it leaks (docs/threat-model.md).")
    ] = Protection.KEYED,
    decoys: Annotated[
        float | None,
        typer.Option(
            min=0, max=256, help="S_n: decoys per block, at level sca. (default: as many as S_x)"
        ),
    ] = None,
    code_bits: Annotated[
        float | None,
        typer.Option(
            min=0.5,
            max=32,
            help="Budget for the code, bits per entry. (default: set by the weights)",
        ),
    ] = None,
    header_bytes: Annotated[
        int | None,
        typer.Option(
            help="Budget for each sealed header, in bytes. (default: what the largest needs)"
        ),
    ] = None,
    original_bits: Annotated[
        float | None,
        typer.Option(help="Budget for each file, bits per sample. (default: enough for all)"),
    ] = None,
    tile: Annotated[
        int,
        typer.Option(
            "--tile",
            metavar="PIXELS",
            help="Side of a tile, the smallest part that can be granted with --region: a multiple "
            "of 64. Smaller ones cost bytes.",
        ),
    ] = Settings.tile,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact", help="Refuse files whose samples would be rounded: NIfTI of real numbers."
        ),
    ] = False,
    lossless: Lossless = False,
    no_series: NoSeries = False,
    frames_alone: FramesAlone = False,
    header: Header = HeaderKept.WHOLE,
    owner: Owner = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="FILE",
            help="Other weights: a file, or the word paper for those of the paper's architecture.",
            parser=parse_path,
        ),
    ] = None,
    max_pixels: MaxPixels = None,
    jobs: Jobs = None,
    dask: Dask = None,
    dask_insecure: DaskInsecure = False,
    shard: Shard = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="Make the release once all shards are done. Give all else as with --shard.",
        ),
    ] = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Make a release of images and grant all that it holds to recipients (less with --tier).

    Recipients of tier diagnostic get the whole DICOM header, the patient's name included, unless
    you say --header minimal.
    """
    require_measured(least_psnr, no_measure=no_measure)
    if psnr is not None and sparsity is not None:
        raise UsageError("--psnr chooses S_x, expected --psnr or --sparsity and not both")
    if psnr is not None and lossless:
        raise UsageError("--lossless keeps every sample, expected --psnr or --lossless")
    settings = _settings(
        decoys=decoys,
        protection=protection,
        sparsity=sparsity,
        code_bits=code_bits,
        header_bytes=header_bytes,
        original_bits=original_bits,
        tile=tile,
    )
    granted = _granted(tier, with_original=with_original, original_bits=original_bits)
    _require_place_outside(out, images)
    if shard is not None and finish:
        raise UsageError("--shard and --finish were both given, expected one of them")
    recipients = parse_recipients(to if shard is None else [t for t in to if not asks_for(t)])
    if protection is Protection.SCA:
        warn(
            "level sca leaks the image to anyone (docs/threat-model.md): "
            "never publish images of patients at this level"
        )
    from primis.cli.progress import Report
    from primis.jobs.executors.choice import executor_for
    from primis.jobs.share.run import share as share_files

    bar = Report("sharing", verbose=verbose, sparsity=settings.sparsity, named=images)
    chosen: list[Chosen] = []
    identifying: list[Identifying] = []
    warned: list[str] = []

    def tell_identifying(found: Identifying) -> None:
        identifying.append(found)
        warned.extend(identified(found, header_tier(granted, header)))

    def tell_chosen(choice: Chosen) -> None:
        chosen.append(choice)
        bar.ask(choice.sparsity)
        if choice.tried:
            note(_chosen(choice, psnr or 0))

    require_one_way(jobs, dask, dask_insecure)
    with (
        refusing(),
        executor_for(jobs, dask, dask_insecure=dask_insecure) as executor,
        bar as report,
    ):
        results = share_files(
            images,
            out,
            recipients,
            open_signer(owner, make=True),
            settings,
            tier=granted,
            with_original=with_original,
            model=model,
            max_pixels=max_pixels,
            measure=not no_measure,
            psnr=psnr,
            exact=exact,
            lossless=lossless,
            series=not no_series,
            minimal=header is HeaderKept.MINIMAL,
            frames_alone=frames_alone,
            labels=labels,
            executor=executor,
            shard=shard,
            finish=finish,
            on_result=report.add,
            on_part=report.part,
            on_gather=report.gather,
            on_look=report.look,
            on_note=note,
            on_identifying=tell_identifying,
            on_chosen=tell_chosen,
            on_sent=report.sent,
            on_wait=note,
        )
    taken = len(results) - report.passed_over
    names = [recipient.label for recipient in recipients]
    notes = unfamiliar(results, "the default" if model is None else "these")
    least = min(LEAST_PSNR, psnr or LEAST_PSNR) if least_psnr is None else least_psnr
    warned += warn_of_losses(results, least, "share with a larger --sparsity, or with --psnr")
    used = chosen[0].sparsity if chosen else settings.sparsity
    facts = _facts(out, results, granted, names)
    facts |= {"sparsity": used, "notes": notes, "warnings": warned}
    facts["identifying"] = identifying[0]._asdict() if identifying else None
    if shard is None:
        line = _line(out, results, taken, granted, names)
    else:
        facts["shard"] = str(shard)
        line = _line_of_shard(out, results, taken, shard)
    result(with_receipt(line, results), facts, as_json=as_json)
    if shard is None:
        _remember(out)
    report.finish()


def _settings(
    *,
    decoys: float | None,
    protection: Protection,
    sparsity: float | None,
    code_bits: float | None,
    header_bytes: int | None,
    original_bits: float | None,
    tile: int,
) -> Settings:
    """Raises UsageError for what the types of the options do not rule out."""
    if tile % _TILE_STEP or not _TILE_STEP <= tile <= _LARGEST_TILE:
        raise UsageError(
            f'--tile is "{tile}", expected a multiple of {_TILE_STEP} up to {_LARGEST_TILE}'
        )
    asked = Settings().sparsity if sparsity is None else round(sparsity, 3)
    if decoys and protection is Protection.KEYED:
        raise UsageError("--decoys need --protection sca: level keyed has none")
    if decoys is not None:
        require_between("decoys", decoys, 0, 256 - asked)
        decoys = round(decoys, 3)
    if header_bytes is not None:
        require_between("header-bytes", header_bytes, MIN_HEADER_BYTES, MAX_HEADER_BYTES)
    if original_bits is not None:
        require_between("original-bits", original_bits, 0.001, MAX_ORIGINAL_BITS)
        original_bits = round(original_bits, 3)
    return Settings(
        decoys=decoys,
        protection=protection,
        sparsity=asked,
        code_bits=None if code_bits is None else round(code_bits, 3),
        header_bytes=header_bytes,
        original_bits=original_bits,
        tile=tile,
    )


def _granted(
    tier: TierName | None, *, with_original: bool, original_bits: float | None
) -> TierName:
    """Raises UsageError where the file itself is asked for and is not to be in the release."""
    if original_bits is not None and not with_original:
        raise UsageError("--original-bits needs --with-original")
    if tier is TierName.ORIGINAL and not with_original:
        raise UsageError('tier "original" needs --with-original')
    return tier or (TierName.ORIGINAL if with_original else TierName.DIAGNOSTIC)


def _require_place_outside(out: str, images: Sequence[Path]) -> None:
    """Raise where the release cannot lie, or would lie among the images."""
    if is_url(out):
        return
    require_place(Path(out))
    folders = [os.path.realpath(path) for path in images if os.path.isdir(path)]
    if any(Path(os.path.realpath(out)).is_relative_to(folder) for folder in folders):
        raise UsageError(
            f'the release "{out}" would lie in a folder that is shared, expected another place'
        )


def header_tier(granted: TierName, kept: HeaderKept) -> TierName | None:
    """The lowest of the tiers that are granted whose recipients get whole headers."""
    lowest = TierName.DIAGNOSTIC if kept is HeaderKept.WHOLE else TierName.ORIGINAL
    return lowest if lowest <= granted else None


def identified(found: Identifying, tier: TierName | None) -> list[str]:
    """Say what recipients will see that may identify patients; what was warned of. tier: the lowest
    whose recipients get headers, None where nobody does."""
    if found.files and tier is not None:
        named = list(found.names)[:_NAMED]
        rest = len(found.names) - len(named)
        more = f" and {rest} more (--json has all)" if rest else ""
        have = "has" if found.files == 1 else "have"
        note(
            f"{found.files} of {found.of} images {have} header elements that may identify a "
            f"patient (DICOM PS3.15, basic profile): {', '.join(named)}{more}; recipients of tier "
            f"{tier} get them: de-identify first what they must not see"
        )
    if not found.burned_in:
        return []
    say_so = "says" if found.burned_in == 1 else "say"
    said = (
        f"{found.burned_in} of {found.of} images {say_so} that what identifies a patient is burned "
        "into their pixels: recipients of any tier may read it"
    )
    warn(said)
    return [said]


def _chosen(chosen: Chosen, psnr: float) -> str:
    """What `--psnr` came to."""
    of = "" if chosen.tried == chosen.images else ", drawn at random"
    return (
        f"S_x = {chosen.sparsity:g} is the smallest at which 95 % of the images reach "
        f"{psnr:g} dB, measured on {chosen.tried} of {chosen.images} images{of}"
    )


def _line(out: str, results: list[Result], taken: int, tier: TierName, labels: list[str]) -> str:
    good = [r for r in results if r.error is None]
    size = show_size(sum(r.bytes for r in good))
    to = ", ".join(labels)
    return f'shared {len(good)} of {taken} images in "{out}" ({size}), tier {tier}, to: {to}'


def _line_of_shard(out: str, results: list[Result], taken: int, shard: Part) -> str:
    good = sum(r.error is None for r in results)
    return (
        f'shared {good} of {taken} images of shard {shard} for "{out}"; '
        "when all shards are done, the same command with --finish in place of --shard makes the "
        "release"
    )


def _facts(out: str, results: list[Result], tier: TierName, labels: list[str]) -> dict[str, Any]:
    return {
        "release": out,
        "tier": tier,
        "recipients": labels,
        "shared": sum(r.error is None for r in results),
        "bytes": sum(r.bytes for r in results if r.error is None),
        "fidelity": fidelity_facts(results),
        "images": [image_facts(r) for r in results],
    }


def image_facts(result: Result) -> dict[str, Any]:
    """What became of an image, as JSON has it."""
    if result.error is not None:
        return {"name": result.name, "error": str(result.error)}
    return {
        "name": result.name,
        "id": result.id,
        "bytes": result.bytes,
        "sparsity": result.kept,
        "quality": quality_facts(result.quality),
        "notes": list(result.notes),
    }


def unfamiliar(results: Sequence[Result], which: str) -> list[str]:
    """Say where images are not of the kind that the weights were trained on; what was said."""
    from primis.jobs.result import COLOUR

    good = [r for r in results if r.error is None]
    found = [r.unfamiliar for r in good if r.unfamiliar is not None]
    if not found:
        return []
    kinds = [f"in {COLOUR}" if each.kind == COLOUR else each.kind for each in found]
    *others, last = (kind for kind, _ in Counter(kinds).most_common())
    named = f"{', '.join(others)} or {last}" if others else last
    said = (
        f"{len(found)} of {len(good)} images {'is' if len(found) == 1 else 'are'} {named}; "
        f"{which} weights were trained on {found[0].trained_on} only: "
        "check what a recipient sees with primis restore"
    )
    note(said)
    return [said]


def _remember(out: str) -> None:
    """So that another release in this place will be noticed."""
    try:
        open_release(out, anew=True)
    except (OutputError, StoreError) as error:  # the release is whole all the same
        warn(str(error))
