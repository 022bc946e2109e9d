"""`primis restore`: the images that a key opens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primis.cli.arguments import open_identities, parse_path, require_one_way, require_place
from primis.cli.fidelity import fidelity_facts, quality_facts, with_receipt, with_texture
from primis.cli.known import open_release, require_release, telling
from primis.cli.options import (
    Dask,
    DaskInsecure,
    From,
    Identities,
    Images,
    Jobs,
    Json,
    MaxPixels,
    Passphrase,
    RegionOption,
    ReleasePlace,
    Shard,
    Tier,
    TrustAnew,
    Verbose,
)
from primis.cli.say import result

if TYPE_CHECKING:
    from primis.jobs.result import Result
    from primis.release.reader import Release

EXAMPLES = (
    "primis restore release -i me.key -o restored",
    "primis restore release -i ~/.ssh/id_ed25519 -o restored --tier preview",
    "primis restore release -i me.key -o one --image chest.dcm",
    "primis restore release -i me.key -o lung --image chest.dcm --region 512,256,300,200",
    "primis restore release --passphrase -o restored",
    "primis restore release -i me.key -o radiomics --texture",
)


def restore(
    release: ReleasePlace,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="FOLDER", help="New folder.", parser=parse_path)
    ],
    identity: Identities = [],  # noqa: B006
    passphrase: Passphrase = False,
    tier: Tier = None,
    image: Images = [],  # noqa: B006
    region: RegionOption = None,
    signer: From = None,
    model: Annotated[
        list[Path],
        typer.Option(
            "--model",
            metavar="FILE",
            help="Weights that do not come with primis. May be repeated.",
            parser=parse_path,
        ),
    ] = [],  # noqa: B006
    texture: Annotated[
        bool,
        typer.Option(
            "--texture",
            help="Add noise like the texture that was lost, for measuring texture (radiomics) at "
            "tier diagnostic; never for reading images.",
        ),
    ] = False,
    trust_anew: TrustAnew = False,
    max_pixels: MaxPixels = None,
    jobs: Jobs = None,
    dask: Dask = None,
    dask_insecure: DaskInsecure = False,
    shard: Shard = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Restore the images that your key opens, at the highest tier unless told otherwise."""
    require_place(out)
    require_release(release)
    keys = open_identities(identity, passphrase)
    require_one_way(jobs, dask, dask_insecure)
    from primis.cli.progress import Report
    from primis.jobs.executors.choice import executor_for
    from primis.jobs.restore import restore as restore_files

    opened = open_release(release, signer=signer, anew=trust_anew)
    with (
        telling(opened),
        executor_for(jobs, dask, dask_insecure=dask_insecure) as executor,
        Report("restoring", verbose=verbose) as report,
    ):
        results = restore_files(
            opened,
            keys,
            out,
            tier=tier,
            images=image,
            models=tuple(model),
            max_pixels=max_pixels,
            texture=texture,
            region=region,
            shard=shard,
            executor=executor,
            on_result=report.add,
            on_part=report.part,
        )
    line = with_texture(with_receipt(_line(opened, out, results), results), results)
    facts = _facts(opened, out, results)
    if shard is not None:
        facts["shard"] = str(shard)
    result(line, facts, as_json=as_json)
    report.finish()


def _line(release: Release, out: Path, results: list[Result]) -> str:
    good = [r for r in results if r.error is None]
    tiers = ", ".join(sorted({r.tier for r in good if r.tier})) or "none"
    return (
        f'restored {len(good)} of {len(results)} images to "{out}" (tier {tiers}); '
        f"signed by {release.manifest.signer}"
    )


def _facts(release: Release, out: Path, results: list[Result]) -> dict[str, Any]:
    return {
        "release": release.place,
        "signer": release.manifest.signer,
        "folder": str(out),
        "restored": sum(r.error is None for r in results),
        "fidelity": fidelity_facts([r for r in results if not r.texture]),
        "fidelity_without_texture": fidelity_facts([r for r in results if r.texture]),
        "images": [_image(r) for r in results],
    }


def _image(result: Result) -> dict[str, Any]:
    if result.error is not None:
        return {"id": result.id, "name": result.name, "error": str(result.error)}
    quality, without_texture = quality_facts(result.quality), None
    if result.texture:
        quality, without_texture = None, quality
    return {
        "id": result.id,
        "name": result.name,
        "tier": result.tier,
        "bytes": result.bytes,
        "texture": result.texture,
        "quality": quality,
        "quality_without_texture": without_texture,
        "notes": list(result.notes),
    }
