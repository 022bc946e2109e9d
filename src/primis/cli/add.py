"""`primis add`: more images for a release that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from primis.cli.arguments import Owner, open_signer, parse_path, require_one_way, show_size
from primis.cli.fidelity import (
    LEAST_PSNR,
    LeastPsnr,
    NoMeasure,
    fidelity_facts,
    require_measured,
    warn_of_losses,
    with_receipt,
)
from primis.cli.known import open_release, require_release, telling
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
    ReleasePlace,
    TrustAnew,
    Verbose,
)
from primis.cli.say import note, result
from primis.cli.share import header_tier, identified, image_facts, unfamiliar
from primis.keys.tier import Tier as TierName

if TYPE_CHECKING:
    from primis.jobs.share.look import Identifying

EXAMPLES = (
    "primis add release new.dcm more-xrays",
    "primis add release mended.dcm --owner owner.key",
)


def add(
    release: ReleasePlace,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Files and folders.", parser=parse_path)
    ],
    owner: Owner = None,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            metavar="FILE",
            help="The weights that the release was shared with, unless they come with primis. "
            "May be repeated.",
            parser=parse_path,
        ),
    ] = [],  # noqa: B006
    least_psnr: LeastPsnr = None,
    no_measure: NoMeasure = False,
    lossless: Lossless = False,
    no_series: NoSeries = False,
    frames_alone: FramesAlone = False,
    header: Header = HeaderKept.WHOLE,
    labels: LabelTable = None,
    trust_anew: TrustAnew = False,
    max_pixels: MaxPixels = None,
    jobs: Jobs = None,
    dask: Dask = None,
    dask_insecure: DaskInsecure = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Add images to a release. Whoever has a grant for all of it can open them too."""
    require_measured(least_psnr, no_measure=no_measure)
    require_release(release)
    signer = open_signer(owner)
    require_one_way(jobs, dask, dask_insecure)
    from primis.cli.progress import Report
    from primis.jobs.add import add as add_files
    from primis.jobs.executors.choice import executor_for

    opened = open_release(release, anew=trust_anew)
    sparsity = opened.manifest.profiles[0].settings.sparsity
    identifying: list[Identifying] = []
    warned: list[str] = []

    def tell_identifying(found: Identifying) -> None:
        identifying.append(found)
        highest = TierName.ORIGINAL if opened.has_originals else TierName.DIAGNOSTIC
        warned.extend(identified(found, header_tier(highest, header)))

    with (
        telling(opened),
        executor_for(jobs, dask, dask_insecure=dask_insecure) as executor,
        Report("adding", verbose=verbose, sparsity=sparsity, named=images) as report,
    ):
        results = add_files(
            opened,
            images,
            signer,
            models=tuple(model),
            max_pixels=max_pixels,
            measure=not no_measure,
            lossless=lossless,
            series=not no_series,
            minimal=header is HeaderKept.MINIMAL,
            frames_alone=frames_alone,
            labels=labels,
            executor=executor,
            on_result=report.add,
            on_part=report.part,
            on_gather=report.gather,
            on_look=report.look,
            on_note=note,
            on_identifying=tell_identifying,
            on_sent=report.sent,
            on_wait=note,
        )
    good = [r for r in results if r.error is None]
    size = show_size(sum(r.bytes for r in good))
    taken = len(results) - report.passed_over
    notes = unfamiliar(results, "its")
    least = LEAST_PSNR if least_psnr is None else least_psnr
    warned += warn_of_losses(
        results, least, "images that are added have the S_x of the release, a new one may not"
    )
    facts = {
        "release": str(release),
        "added": len(good),
        "bytes": sum(r.bytes for r in good),
        "fidelity": fidelity_facts(results),
        "images": [image_facts(r) for r in results],
        "notes": notes,
        "warnings": warned,
        "identifying": identifying[0]._asdict() if identifying else None,
    }
    line = f'added {len(good)} of {taken} images to "{release}" ({size})'
    result(with_receipt(line, results), facts, as_json=as_json)
    report.finish()
