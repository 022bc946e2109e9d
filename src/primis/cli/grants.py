"""`primis grant` and `primis rekey`: who else opens a release, and who no longer."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from primis.cli.arguments import (
    Owner,
    Refused,
    open_signer,
    parse_date,
    parse_recipients,
    parse_viewer,
    require_one_way,
)
from primis.cli.known import open_release, require_release, telling
from primis.cli.options import (
    Dask,
    DaskInsecure,
    Images,
    Jobs,
    Json,
    RegionOption,
    ReleasePlace,
    Shard,
    Tier,
    To,
    TrustAnew,
)
from primis.cli.say import counted, result, show, warn
from primis.cli.say import note as say_note
from primis.errors import UsageError
from primis.keys.tier import Tier as TierName

if TYPE_CHECKING:
    from primis.keys.link import Link

GRANT_EXAMPLES = (
    "primis grant release --to carol=carol.key.pub",
    "primis grant release --to carol=carol.key.pub --tier preview --not-after 2999-12-31",
    "primis grant release --to carol=carol.key.pub --image chest.dcm",
    "primis grant release --to carol=carol.key.pub --image chest.dcm --region 512,256,300,200",
    "primis grant release --image chest.dcm --link https://viewer.example/?release=https://host/r",
)
REKEY_EXAMPLES = (
    "primis rekey release --without carol",
    "primis rekey release --carry-others",
    "primis rekey release --shard 3/8",
    "primis rekey release --without carol --finish",
)


def grant(
    release: ReleasePlace,
    to: To = [],  # noqa: B006
    tier: Tier = None,
    image: Images = [],  # noqa: B006
    region: RegionOption = None,
    link: Annotated[
        str | None,
        typer.Option(
            "--link",
            metavar="URL",
            help="In place of --to: make a link that opens one image in a browser. URL is the "
            "address of your viewer, with ?release= and the address of the release. A PIN is "
            "printed with the link: send it separately.",
            parser=parse_viewer,
        ),
    ] = None,
    no_pin: Annotated[
        bool,
        typer.Option(
            "--no-pin", help="Make a link that opens without a PIN, to anyone who has it."
        ),
    ] = False,
    note: Annotated[
        str | None,
        typer.Option(
            "--note", metavar="TEXT", help="A line for the recipient, sealed in the grant."
        ),
    ] = None,
    not_after: Annotated[
        datetime.date | None,
        typer.Option(
            "--not-after",
            metavar="YYYY-MM-DD",
            help="Last day on which primis opens the grant.",
            parser=parse_date,
        ),
    ] = None,
    trust_anew: TrustAnew = False,
    owner: Owner = None,
    as_json: Json = False,
) -> None:
    """Let more people open a release, some of its images, or a region of each.

    Up to tier diagnostic, unless --tier says otherwise. A region opens the tiles that it touches
    (share --tile), in its frames and those that are coded with them, and nothing else of its image.
    """
    if region is not None and not image:
        raise UsageError("--region needs --image, the image that it is a part of")
    _require_one_way(to, link, image, no_pin=no_pin)
    if not_after is not None and not_after < datetime.datetime.now(datetime.UTC).date():
        raise UsageError(f'--not-after is "{not_after}", expected today or a later day')
    require_release(release)
    secret = None if link is None else _new_link(no_pin=no_pin)
    recipients = parse_recipients(to) if secret is None else [secret.recipient]
    signer = open_signer(owner)
    opened = open_release(release, anew=trust_anew)
    from primis.release.naming import ids_of
    from primis.release.owner import grant as make_grant

    granted = tier or TierName.DIAGNOSTIC
    if region is not None and granted is TierName.ORIGINAL:
        raise UsageError('tier "original" is the file itself, which has no regions')
    if granted is TierName.ORIGINAL and not opened.has_originals:
        raise Refused(
            'tier "original" was asked for, but the release was shared without --with-original'
        )
    lines, made = [], []
    with telling(opened):
        own = opened.open_grants([signer.identity], trust=signer.public)
        chosen = ids_of(opened, own, image)
        what = counted(len(chosen), "image") if chosen else "the whole release"
        what = what if region is None else f"region {region} of {what}"
        opens: dict[str, str] = {}
        for recipient in recipients:
            path = make_grant(
                opened,
                recipient,
                signer,
                tier=granted,
                images=chosen or None,
                region=region,
                note=note,
                not_after=not_after,
                on_wait=say_note,
                on_opens=lambda image, opened: opens.update({image: str(opened)}),
            )
            label = path.rpartition("/")[2].split(".")[0]
            lines.append(f'granted {what} up to tier {granted} to {label}: "{path}"')
            made.append({"label": label, "file": path})
    facts = {
        "release": opened.place,
        "tier": granted,
        "images": chosen or "all",
        "region": None if region is None else str(region),
        "opens": opens,
        "grants": made,
    }
    if link is not None and secret is not None:
        url = secret.at(link, made[0]["label"])
        facts |= {"link": url, "pin": secret.pin}
        lines += _said_of(url, secret)
    if secret is not None and not as_json:
        show("\n".join(lines))  # with --quiet too: what opens the grant is nowhere else
    else:
        result("\n".join(lines), facts, as_json=as_json)
    for image_id, opened_region in opens.items():
        if opened_region != str(region):
            say_note(
                f'of image "{image_id}" that opens {opened_region}: whole tiles, and frames that '
                "are coded together"
            )


def _require_one_way(to: list[str], link: str | None, image: list[str], *, no_pin: bool) -> None:
    """Raise UsageError unless there are recipients or a link, which is to one image."""
    if link is None:
        if no_pin:
            raise UsageError("--no-pin needs --link")
        if not to:
            raise UsageError("no recipient: expected --to KEY or --link URL")
        return
    if to:
        raise UsageError("--to and --link were both given, expected one of them")
    if len(image) != 1:
        raise UsageError(f"--link opens one image, expected one --image, not {len(image)}")


def _new_link(*, no_pin: bool) -> Link:
    from primis.keys.link import Link

    return Link.new(pin=not no_pin)


def _said_of(url: str, secret: Link) -> list[str]:
    if secret.pin is None:
        return [f"link, which opens it to anyone who has it: {url}"]
    return [f"link: {url}", f"PIN, to be sent separately from the link: {secret.pin}"]


def rekey(
    release: ReleasePlace,
    without: Annotated[
        list[str],
        typer.Option("--without", metavar="LABEL", help="Withdraw this grant. May be repeated."),
    ] = [],  # noqa: B006
    carry_others: Annotated[
        bool,
        typer.Option(
            "--carry-others", help="Keep files in the folder that are not part of the release."
        ),
    ] = False,
    jobs: Jobs = None,
    dask: Dask = None,
    dask_insecure: DaskInsecure = False,
    shard: Shard = None,
    finish: Annotated[
        bool,
        typer.Option(
            "--finish",
            help="Once all shards are done: renew the grants and replace the old state.",
        ),
    ] = False,
    trust_anew: TrustAnew = False,
    owner: Owner = None,
    as_json: Json = False,
) -> None:
    """Give a release new secrets and renew its grants, without encoding any image again."""
    require_one_way(jobs, dask, dask_insecure)
    if shard is not None and finish:
        raise UsageError("--shard and --finish were both given, expected one of them")
    require_release(release)
    signer = open_signer(owner)
    opened = open_release(release, anew=trust_anew)
    from primis.cli.progress import running_bar
    from primis.jobs.executors.choice import executor_for
    from primis.jobs.rekey.run import rekey as give_new_secrets

    with (
        telling(opened),
        executor_for(jobs, dask, dask_insecure=dask_insecure) as executor,
        running_bar("sealing anew") as progress,
    ):
        done = give_new_secrets(
            opened,
            signer,
            without=without,
            carry_others=carry_others,
            executor=executor,
            shard=shard,
            finish=finish,
            progress=progress,
            on_wait=say_note,
        )
    facts: dict[str, Any] = {
        "release": opened.place,
        "images": done.images,
        "renewed": list(done.renewed),
        "dropped": list(done.dropped),
        "left_out": list(done.left_out),
        "still_there": done.still_there,
    }
    if shard is not None:
        line = (
            f'sealed {counted(done.images, "image")} of shard {shard} of "{release}" anew; when '
            "all shards are done, the same command with --finish in place of --shard gives the "
            "release its new secrets"
        )
        result(line, facts | {"shard": str(shard)}, as_json=as_json)
        return
    renewed, dropped = ", ".join(done.renewed) or "none", ", ".join(done.dropped) or "none"
    result(
        f'"{release}" has new secrets; grants renewed: {renewed}; dropped: {dropped}\n'
        "whoever kept a copy of the old release and its grant can still open that copy",
        facts,
        as_json=as_json,
    )
    if done.left_out:
        why = "links are not followed" if carry_others else "--carry-others keeps files"
        say_note(f"left out ({why}): {', '.join(done.left_out)}")
    for folder in done.still_there:
        warn(f'"{folder}" cannot be removed and still opens with withdrawn keys: remove it')
    if done.still_there:
        raise typer.Exit(1)
