"""The report: a page and a PDF of one document, its figures as JSON and CSV, and the paper's figures beside a run's own."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from primis.attacks.result import (
    FidelityMetrics,
    Gain,
    Kind,
    Reconstruction,
    Result,
    Unit,
)
from primis.audit.pictures import Row
from primis.errors import OutputError
from primis.imaging.phantom import draw_phantom
from primis.metrics.statistics import Estimate
from primis.study.report import attacks
from primis.study.report.document import Document, Figure, Section, Table, Text
from primis.study.report.html import page
from primis.study.report.numbers import interval, plain, signed, with_sd
from primis.study.report.paper import TABLES, Ours, Printed, paper, section
from primis.study.report.pdf import render
from primis.study.report.write import write

VERSIONS = ("S_x = 4", "S_x = 8", "S_x = 16", "original")
PAIRS = [(train, test) for train in VERSIONS for test in VERSIONS]
FACTS = {
    "data": "phantoms <1>",
    "split": "70 / 10 / 20 %, patients apart",
    "n": "12",
    "seed": "0",
    "commit": "05ab98e",
}
ODD = '− ± ≤ ≥ ² ₓ – ‘ ’ ∞ R² & <script>alert(1)</script> "quoted"'


@pytest.fixture(scope="module")
def document() -> Document:
    rng = np.random.default_rng(0)
    cells = lambda n: tuple(f"{a:.2f} ± {b:.2f}" for a, b in rng.random((n, 2)))  # noqa: E731
    columns = ("version", *(f"measure {n}" for n in range(8)))
    long = Table(
        f"Fidelity {ODD}",
        columns,
        tuple((f"S_x = {n}", *cells(8)) for n in range(17)),
        FACTS,
        frozenset({(1, 2)}),
    )
    wide = Table(
        "Wide",
        tuple(f"a long heading {n}" for n in range(12)),
        tuple(("original", *cells(11)) for _ in range(3)),
    )
    many = Table(
        "Many",
        ("class", "feature", "ICC"),
        tuple((f"glcm{n // 60}", f"a feature {n}", f"{n / 200:.3f}") for n in range(180)),
    )
    three = Table(
        "Three lines", ("of", "task 1"), (("paper\nhere\ndifference", "0.93\n0.91\n−0.02"),)
    )
    picture = attacks.sheet([phantom_row(2)])
    return Document(
        "Every table & figure", {"machine": "a <b>"},
        (
            Section("fidelity", "Fidelity of S_x", (Text(f"Plain. {ODD}"), Text("Children & adults differ.", True), long, wide)),
            Section("texture", "Texture", (many, three, Figure("Drawn", picture, 'a "phantom"', FACTS), Text("The end."))),
        ),
    )  # fmt: skip


def phantom_row(cells: int) -> Row:
    pixels = np.asarray(draw_phantom(64, seed=1), np.float64)
    return Row(
        [(f"picture {n}", pixels) for n in range(cells)], float(pixels.min()), float(pixels.max())
    )


class Reader(HTMLParser):
    """Collects texts by tag, and attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str, attribute: str) -> list[str]:
        return [value for t, a, value in self.attributes if (t, a) == (tag, attribute)]


def test_the_page_is_well_formed_and_says_everything(document: Document) -> None:
    read = Reader(page(document))
    assert not read.open  # every tag closed, in order
    text = "".join(data for _, data in read.texts).replace("\xa0", " ")
    for section_ in document.sections:
        assert section_.title.replace("S_x", "Sx") in text
        for block in section_.blocks:
            said = [block.text] if isinstance(block, Text) else [block.title, *block.facts.values()]
            said += [cell for row in block.rows for cell in row] if isinstance(block, Table) else []
            assert all(each.replace("S_x", "Sx") in text for each in said)
    assert "Caution." in text
    assert "alert(1)" not in "".join(data for tag, data in read.texts if tag in ("script", "style"))


def test_the_page_needs_nothing_else(document: Document) -> None:
    source = page(document)
    read = Reader(source)
    assert "script" not in {tag for tag, _, _ in read.attributes} and "<script" not in source
    assert not re.search(
        r"https?://|//[a-z]|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    )
    assert all(link.startswith("data:image/png;base64,") for link in read.all("img", "src"))
    (image,) = [block for block in document.sections[1].blocks if isinstance(block, Figure)]
    assert base64.b64decode(read.all("img", "src")[0].split(",")[1]) == image.png
    assert read.all("img", "alt") == ['a "phantom"']


def test_the_page_can_be_walked_through(document: Document) -> None:
    read = Reader(page(document))
    names = [value for _, attribute, value in read.attributes if attribute == "id"]
    assert len(names) == len(set(names))
    links = read.all("a", "href")
    assert len(links) == 2 + 5 and all(link[1:] in names for link in links)
    assert set(read.all("th", "scope")) == {"col", "row"}
    assert all(label in names for label in read.all("div", "aria-labelledby"))


def test_the_pdf_holds_the_document(document: Document) -> None:
    data = render(document)
    assert data.startswith(b"%PDF") and data == render(document)
    pages = [
        (float(w), float(h)) for w, h in re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", data)
    ]
    assert len(pages) >= 6
    assert {w > h for w, h in pages} == {False, True}  # the wide table lies sideways
    assert (
        "Every table & figure".encode("utf-16-be") in _unescaped(data)
        or b"(Every table & figure)" in data
    )
    assert b"/Outlines" in data and data.count(b"/FontFile2") == 2
    assert b"(Texture)" in data and b"(Many)" in data


def test_odd_documents_are_shown_all_the_same() -> None:
    table = Table(
        "Forty columns",
        tuple(f"column {n}" for n in range(40)),
        (tuple(f"{n}.123456 ± 0.1" for n in range(40)),) * 60,
    )
    words = Table("Words", ("a", "b"), (("word " * 400, "unbroken" * 60), ("", "肺")))
    sections = (
        Section("none", "Nothing", ()),
        Section("some", "Some", (Table("No rows", ("a", "b"), ()), table, words)),
    )
    for document in (Document("Empty", {}, ()), Document("Odd " * 60, {"a": ""}, sections)):
        assert render(document).startswith(b"%PDF") and not Reader(page(document)).open


def test_every_sign_is_in_the_pdf(document: Document) -> None:
    streams = [
        _inflated(body)
        for body in re.findall(rb"stream\r?\n(.*?)endstream", render(document), re.S)
    ]
    maps = [body for body in streams if b"begincmap" in body]
    mapped = {int(code, 16) for body in maps for code in re.findall(rb"<([0-9A-F]{4})>", body)}
    assert {ord(sign) for sign in "−±≤≥²–‘’∞"} <= mapped


def _inflated(body: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(body)
    except zlib.error:
        return b""


def _unescaped(data: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), data)


def test_a_table_must_have_rows_as_wide_as_its_head() -> None:
    with pytest.raises(ValueError, match='table "a" has a row of 1 cells, expected 2'):
        Table("a", ("b", "c"), (("d",),))


def test_columns_of_figures_stand_to_the_right() -> None:
    rows = (
        ("S_x = 4", "−0.1 ± 2", "1 to 2", "yes", "–"),
        ("S_x = 8", "12", "–", "–", "–"),
        ("S_x = 8", "∞", "+3", "", "–"),
    )
    table = Table("t", ("a", "b", "c", "d", "e"), rows)
    assert table.numeric == (False, True, True, False, True)
    assert table.starts == (False, True, False)
    assert Table("t", ("a",), (("b",), ("c",))).starts == (False, False)


def test_a_report_is_written_for_its_owner(document: Document, tmp_path: Path) -> None:
    rows = [("a.png", 1.25, None), ('b, "c"', np.float32(0.1), np.int64(3))]
    body = {
        "psnr": [float("inf"), np.nan, 1.5],
        "e": Estimate(1, -np.inf, np.inf, 1),
        "n": np.int64(3),
        "s": "S_x ≤ 4",
    }
    write(
        document,
        tmp_path / "new" / "report",
        body,
        {"fidelity": (("image", "psnr", "n"), iter(rows))},
    )
    folder = tmp_path / "new" / "report"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ["index.html", "report.pdf", "report.json", "fidelity.csv"], 0o600
    )
    read = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    assert read == {
        "psnr": [None, None, 1.5],
        "e": {"value": 1, "low": None, "high": None, "n": 1, "sd": None},
        "n": 3,
        "s": "S_x ≤ 4",
    }
    with (folder / "fidelity.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["image", "psnr", "n"] and [row[0] for row in table[1:]] == [
        "a.png",
        'b, "c"',
    ]
    assert (
        float(table[1][1]) == 1.25
        and table[1][2] == ""
        and np.float32(table[2][1]) == np.float32(0.1)
    )


def test_nothing_is_written_where_something_cannot_be_made(
    document: Document, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="row has 1 cells, expected 2"):
        write(document, tmp_path / "report", {}, {"a": (("b", "c"), [(1,)])})
    with pytest.raises(TypeError):
        write(document, tmp_path / "report", {"a": object()}, {})
    assert not (tmp_path / "report").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write(document, tmp_path / "file", {}, {})


def test_figures_have_a_minus_sign_and_no_minus_nought() -> None:
    assert [plain(x) for x in (-0.001, -1.5, float("-inf"))] == ["0.00", "−1.50", "−∞"]
    assert [signed(x) for x in (0.001, 0.5, -0.5)] == ["0.00", "+0.50", "−0.50"]
    assert (
        with_sd(1, None) == "1.00"
        and with_sd(-1, 0.5, 1) == "−1.0 ± 0.5"
        and interval(-1, 2, 0) == "−1 to 2"
    )


# The paper's figures.


def test_the_grids_of_classification_are_complete() -> None:
    for measure in ("auc", "accuracy", "sensitivity", "specificity"):
        cells = paper().classification[measure]
        assert set(cells) == {(task, *pair) for task in range(1, 9) for pair in PAIRS}
        assert all(0.5 <= value <= 1 for value in cells.values())
    assert len(paper().tasks) == 8


def test_accuracy_lies_between_sensitivity_and_specificity() -> None:
    """So it does for two classes, whatever their sizes; figures are rounded to a hundredth."""
    table = paper().classification
    for key, accuracy in table["accuracy"].items():
        pair = table["sensitivity"][key], table["specificity"][key]
        assert key[0] == 1 or min(pair) - 0.0101 <= accuracy <= max(pair) + 0.0101


@pytest.mark.parametrize("name", ["fidelity", "attacks", "segmentation"])
def test_means_deviations_and_intervals_fit_each_other(name: str) -> None:
    """A slip in copying shows: an interval is the mean ± 1.96 SD / √n, as far as two digits tell."""
    rows: dict[str, dict[str, Printed]] = getattr(paper(), name)
    assert rows.keys() == {
        "fidelity": set(VERSIONS[:3]),
        "attacks": {"U-Net", "V-Net", "GAN", "CycleGAN"},
    }.get(name, set(PAIRS))
    for row in rows.values():
        assert len(row) == (6 if name == "segmentation" else 5)
        for p in row.values():
            assert abs((p.low + p.high) / 2 - p.mean) < 0.0101
            half = 1.96 * p.sd / paper().tested[name] ** 0.5
            assert abs((p.high - p.low) / 2 - half) < 0.011


def test_table_1_has_the_oddity_that_the_section_names() -> None:
    assert all(row["me"] == row["mae"] for row in paper().fidelity.values())
    assert all(row["me"].mean != row["mae"].mean for row in paper().attacks.values())


def near(value: float, sd: float | None = 0.1) -> Estimate:
    return Estimate(value + 0.02, value, value + 0.04, 9, sd)


def complete() -> Ours:
    p = paper()

    def rows(table):
        return {name: {m: near(x.mean) for m, x in row.items()} for name, row in table.items()}

    return Ours(
        rows(p.fidelity), {version: value - 0.01 for version, value in p.correlation.items()},
        {measure: {key: near(value, None) for key, value in cells.items()} for measure, cells in p.classification.items()},
        rows(p.segmentation), dict.fromkeys(VERSIONS[:3], 0.9), rows(p.attacks), {"fidelity": FACTS},
    )  # fmt: skip


def test_each_table_of_the_paper_stands_beside_ours() -> None:
    blocks = section(complete()).blocks
    tables = {block.title.split(":")[0]: block for block in blocks if isinstance(block, Table)}
    assert list(tables) == [
        "Table 1",
        "Fig. 6",
        *TABLES.values(),
        "Table 3",
        "Supplemental Table 4",
        "Fig. 8",
        "Table 4",
    ]
    assert (
        "S_x = 16",
        "PSNR, dB",
        "38.48 ± 1.56",
        "38.48 to 38.49",
        "38.50 ± 0.10",
        "38.48 to 38.52",
        "+0.02",
    ) in tables["Table 1"].rows
    assert (
        "S_x = 4",
        "ME",
        "9.35 ± 8.19",
        "9.31 to 9.39",
        "9.37 ± 0.10",
        "9.35 to 9.39",
        "–",
    ) in tables["Table 1"].rows
    assert tables["Table 2"].rows[3][:4] == (
        "S_x = 4",
        "original",
        "paper\nhere\ndifference",
        "0.83\n0.85\n+0.02",
    )
    assert [len(tables[name].rows) for name in ("Table 2", "Table 3", "Table 4")] == [16, 16, 20]
    assert (
        tables["Table 1"].facts["paper's n"] == "160,000" and tables["Table 1"].facts["n"] == "12"
    )
    assert not any("left out" in block.text.lower() for block in blocks if isinstance(block, Text))
    assert any(
        "COVID-19" in block.text for block in blocks if isinstance(block, Text) and block.caution
    )
    assert "Table 1" in page(Document("t", {}, (section(complete()),)))


def test_what_a_run_lacks_is_said() -> None:
    full = complete()
    auc = {
        key: value
        for key, value in full.classification["auc"].items()
        if key[0] == 2 and key[1] == "original"
    }
    some = {"S_x = 8": {"psnr": near(40.0)}, "S_x = 2": {"psnr": near(30.0)}}
    blocks = section(Ours(fidelity=some, classification={"auc": auc})).blocks
    tables = [block for block in blocks if isinstance(block, Table)]
    assert [len(table.rows) for table in tables] == [1, 4] and tables[1].columns == (
        "trained on",
        "tested on",
        "",
        "task 2",
    )
    texts = " ".join(block.text for block in blocks if isinstance(block, Text))
    for said in (
        "Left out of Table 1",
        "S_x = 4; S_x = 16; MAE of S_x = 8",
        "124 of its 128 cells",
        "Table 3 is left out",
        "Table 4 is left out",
    ):
        assert said in texts
    assert not any(
        block.caution for block in blocks if isinstance(block, Text)
    )  # no task with COVID-19 is shown
    assert not [block for block in section(Ours()).blocks if not isinstance(block, Text)]


# Attacks.


def found(
    attack: str, kind: Kind = Kind.RECONSTRUCTION, source: str = "", gain: float = 0.0
) -> Result:
    means = [Estimate(n + 0.5, n + 0.25, n + 0.75, 9, 0.125) for n in range(7)]
    drawn, unit = None, Unit.SHARE
    if kind is Kind.RECONSTRUCTION:
        drawn, unit = Reconstruction(FidelityMetrics(*means[:5]), means[6], means[5]), Unit.DB
    reached = Estimate(gain, gain - 0.01, gain + 0.01, 9, 0.1)
    gains = (Gain("PSNR over another's", unit, 0.0, reached, 1e-9 if gain else 0.9),)
    return Result(attack, kind, source, "public bundles", gains, drawn)


FORMS = ("decoded public image", "code")
NETWORKS = [
    found(f"{net} on the {form}", source="Shiri et al. 2024, Table 4")
    for form in FORMS
    for net in ("U-Net", "V-Net")
]


def test_attacks_are_shown_with_floor_and_ceiling() -> None:
    findings = [
        *NETWORKS,
        found("largest values", gain=3.0),
        found("linkage", Kind.REIDENTIFICATION, gain=-0.5),
    ]
    ceiling = FidelityMetrics(*[near(40.0)] * 5)
    shown = attacks.section(
        "level keyed",
        findings,
        ceiling,
        [phantom_row(9)],
        controls=[found("control", gain=5.0)],
        facts=FACTS,
    )
    assert shown.name == "attacks-level-keyed"
    verdict = shown.blocks[0]
    assert (
        isinstance(verdict, Text)
        and verdict.caution
        and verdict.text.startswith("1 of 6 attacks on level keyed learned")
    )
    table, figure, images, rest, controls = shown.blocks[2:]
    assert isinstance(table, Table) and [row[0] for row in table.rows[-2:]] == [
        "floor: mean of other images, no bundle",
        "ceiling: the key's holder",
    ]
    assert (
        table.rows[0][1] == "0.50 ± 0.12\n0.25 to 0.75"
        and table.rows[-2][4] == "5.50 ± 0.12\n5.25 to 5.75"
        and not table.bold
    )
    assert isinstance(figure, Figure) and figure.png.startswith(b"\x89PNG")
    assert isinstance(images, Table) and images.rows[0][-1] == "yes" and images.bold == {(0, 7)}
    assert isinstance(rest, Table) and rest.rows[0][3:] == ("−50 %", "−51 % to −49 %", "0 %", "no")
    assert isinstance(controls, Table) and controls.rows[0][-1] == "yes" and controls.facts == FACTS


def test_an_audit_that_missed_its_controls_proves_nothing() -> None:
    verdict = attacks.section("level keyed", NETWORKS, None, controls=[found("control")]).blocks[0]
    assert isinstance(verdict, Text) and verdict.caution and "proves nothing" in verdict.text
    calm = attacks.section(
        "level keyed", NETWORKS, None, controls=[found("control", gain=5.0)]
    ).blocks[0]
    assert isinstance(calm, Text) and not calm.caution and calm.text.startswith("None of 4 attacks")


def test_the_papers_networks_are_found_by_name() -> None:
    assert list(attacks.by_network([*NETWORKS, found("largest values")])) == ["U-Net", "V-Net"]
    assert list(attacks.by_network(NETWORKS, "on the code")) == ["U-Net", "V-Net"]
    assert attacks.by_network(NETWORKS)["V-Net"]["psnr"].value == 3.5


def test_a_sheet_is_the_same_each_time_and_wraps() -> None:
    import io

    from PIL import Image

    assert attacks.sheet([phantom_row(3)]) == attacks.sheet([phantom_row(3)])
    one, two = (Image.open(io.BytesIO(attacks.sheet([phantom_row(n)]))) for n in (7, 8))
    assert two.width == one.width and two.height > 2 * one.height


def test_a_sheet_shows_monochrome1_as_people_look_at_it() -> None:
    ramp = np.tile(np.arange(64.0), (64, 1))

    def drawn(low: float, high: float) -> np.ndarray:
        with Pillow.open(io.BytesIO(attacks.sheet([Row([("x", ramp)], low, high)]))) as picture:
            return np.asarray(picture.convert("L"), int)

    plain, dark = drawn(0, 63), drawn(63, 0)
    line = plain.shape[0] // 2, slice(plain.shape[1] // 4, 3 * plain.shape[1] // 4)
    assert np.ptp(plain[line]) > 60
    assert np.abs(plain[line] + dark[line] - 255).max() <= 2
