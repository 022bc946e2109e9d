"""The report: its page, PDF, JSON and CSV, and the paper's tables beside a run's own."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weasyprint
from PIL import Image as Pillow
from pypdf import PdfReader
from weasyprint.formatting_structure.boxes import TextBox
from weasyprint.text.fonts import FontConfiguration

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
from primis.metrics.estimate import Estimate
from primis.study.attacks import report as attacks
from primis.study.names import Pair, PartName
from primis.study.paper.printed import Cell, Errors, Outlines, Printed, Scores, Source, paper
from primis.study.paper.tables import Measured, Ours, section
from primis.study.report import pdf
from primis.study.report.document import Document, Figure, Section, Table, Text
from primis.study.report.html import page
from primis.study.report.numbers import interval, known_interval, plain, signed, with_sd
from primis.study.report.pdf import PdfUnavailable, render
from primis.study.report.write import write

VERSIONS = ("S_x = 4", "S_x = 8", "S_x = 16", "original")
PAIRS = [Pair(train, test) for train in VERSIONS for test in VERSIONS]
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
        tuple(f"a long heading {n}" for n in range(18)),
        tuple(("original", *cells(17)) for _ in range(3)),
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
    drawn = Figure("Drawn", picture, 'a "phantom"', FACTS)
    texts = Text(f"Plain. {ODD}"), Text("Children & adults differ.", True)
    sections = (
        Section("fidelity", "Fidelity of S_x", (*texts, long, wide)),
        Section("texture", "Texture", (many, three, drawn, Text("The end."))),
    )
    return Document("Every table & figure", {"machine": "a <b>"}, sections)


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


WIDE = Table(
    "Forty columns",
    tuple(f"column {n}" for n in range(40)),
    (tuple(f"{n}.123456 ± 0.1" for n in range(40)),) * 12,
)
WORDS = Table("Words", ("a", "b"), (("word " * 100, "unbroken" * 30), ("", "肺")))
ODDITIES = (
    Document("Empty", {}, ()),
    Document(
        "Odd " * 60,
        {"a": ""},
        (
            Section("none", "Nothing", ()),
            Section("some", "Some", (Table("No rows", ("a", "b"), ()), WIDE, WORDS)),
        ),
    ),
)


@pytest.fixture(scope="module")
def printed(document: Document) -> bytes:
    return render(page(document))


def pages_of(data: bytes) -> list[str]:
    return [sheet.extract_text() for sheet in PdfReader(io.BytesIO(data)).pages]


def test_the_pdf_holds_the_document(document: Document, printed: bytes) -> None:
    assert printed == render(page(document))  # the same bytes for the same document
    read = PdfReader(io.BytesIO(printed))
    assert read.metadata is not None and read.metadata.title == "Every table & figure"
    sizes = {float(p.mediabox.width) > float(p.mediabox.height) for p in read.pages}
    assert len(read.pages) >= 6 and sizes == {False, True}  # the wide table lies sideways
    outline = [entry.title for entry in flat(read.outline)]
    assert {"Fidelity of Sx", "Texture", "Many", "Drawn"} <= set(outline)
    text = "".join(pages_of(printed))
    assert "a feature 179" in text and "S_x" not in text
    assert {sign for sign in "−±≤≥²–‘’∞" if sign not in text} == set()


def flat(outline: list) -> list:
    """Entries of all levels."""
    inner = [flat(entry) if isinstance(entry, list) else [entry] for entry in outline]
    return [entry for part in inner for entry in part]


def test_pages_are_numbered_listed_and_titled(printed: bytes) -> None:
    pages = pages_of(printed)
    assert all(f"{n} / {len(pages)}" in text for n, text in enumerate(pages, 1))
    assert all("Every table & figure" in text for text in pages)  # the title runs along
    (many,) = {n for n, text in enumerate(pages, 1) if "a feature 0" in text}
    assert re.search(rf"Many[ .]*\s*{many}\b", pages[0])  # the contents say where
    assert all("Texture" in text for text in pages[many - 1 :])


@pytest.mark.parametrize("odd", range(3))
def test_nothing_is_cut_off_in_print(document: Document, odd: int) -> None:
    for number, sheet in enumerate(laid_out((document, *ODDITIES)[odd]).pages, 1):
        box = sheet._page_box
        for text, left, right, bottom in texts_of(box):
            where = f"page {number}: {text!r}"
            assert left >= -1 and right <= sheet.width + 1 and bottom <= sheet.height + 1, where


def laid_out(document: Document) -> weasyprint.Document:
    fonts = FontConfiguration()
    faces = weasyprint.CSS(string=pdf._faces(), font_config=fonts)
    html = weasyprint.HTML(string=page(document))
    return html.render(stylesheets=[faces], font_config=fonts)


def texts_of(box: Any) -> Iterator[tuple[str, float, float, float]]:
    """(text, left, right, bottom) of everything that is printed."""
    if isinstance(box, TextBox):
        bottom = box.position_y + box.height
        yield box.text, box.position_x, box.position_x + box.width, bottom
    for child in getattr(box, "children", ()):
        yield from texts_of(child)


def test_a_table_goes_on_over_pages_under_its_head(printed: bytes) -> None:
    pages = pages_of(printed)
    over = [text for text in pages[1:] if re.search(r"a feature \d", text)]
    assert len(over) > 2 and all("ICC" in text for text in over)


def test_pages_of_odd_documents_are_well_formed() -> None:
    for odd in ODDITIES:
        assert not Reader(page(odd)).open


@pytest.mark.parametrize("error", [ModuleNotFoundError, OSError])
def test_without_its_library_one_line_says_what_to_install_and_the_page_is_written(
    document: Document, tmp_path: Path, monkeypatch, error: type[Exception]
) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "weasyprint":
                raise error("cannot load library 'libpango-1.0-0'\nsee https://...")

    for name in [name for name in sys.modules if name.split(".")[0] == "weasyprint"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    missing = write(document, tmp_path / "report", {}, {})
    assert isinstance(missing, PdfUnavailable) and "\n" not in str(missing)
    said = "pip install 'primis[evaluate]'" if error is ModuleNotFoundError else "libpango-1.0-0"
    assert said in str(missing)
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"index.html", "report.json"}


def test_a_table_must_have_rows_as_wide_as_its_head() -> None:
    with pytest.raises(ValueError, match='table "a" has a row of 1 cells, expected 2'):
        Table("a", ("b", "c"), (("d",),))


def test_columns_of_numbers_stand_to_the_right() -> None:
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
    folder = tmp_path / "new" / "report"
    assert write(document, folder, body, {"fidelity": (("image", "psnr", "n"), iter(rows))}) is None
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


def test_numbers_have_a_minus_sign_and_no_minus_zero() -> None:
    assert [plain(x) for x in (-0.001, -1.5, float("-inf"))] == ["0.00", "−1.50", "−∞"]
    assert [signed(x) for x in (0.001, 0.5, -0.5)] == ["0.00", "+0.50", "−0.50"]
    assert known_interval(Estimate(1, 0, 2, 3)) == "0.00 to 2.00"
    assert known_interval(Estimate(1, 0, 2, 2)) == "–"
    assert (
        with_sd(1, None) == "1.00"
        and with_sd(-1, 0.5, 1) == "−1.0 ± 0.5"
        and interval(-1, 2, 0) == "−1 to 2"
    )


# The paper's tables.


def test_the_grids_of_classification_are_complete() -> None:
    for cells in paper().classification.rows.each():
        assert set(cells) == {Cell(task, *pair) for task in range(1, 9) for pair in PAIRS}
        assert all(0.5 <= value <= 1 for value in cells.values())
    assert len(paper().classification.tasks) == 8


def test_accuracy_lies_between_sensitivity_and_specificity() -> None:
    """So it does for two classes, whatever their sizes; values are rounded to a hundredth."""
    rows = paper().classification.rows
    for cell, accuracy in rows.accuracy.items():
        pair = rows.sensitivity[cell], rows.specificity[cell]
        assert cell.task == 1 or min(pair) - 0.0101 <= accuracy <= max(pair) + 0.0101


def fits(printed: Printed, source: Source) -> bool:
    """A slip in copying shows: an interval is mean ± 1.96 SD / √n, as far as two digits tell."""
    assert source.tested is not None
    half = 1.96 * printed.sd / source.tested**0.5
    middle = abs((printed.low + printed.high) / 2 - printed.mean) < 0.0101
    return middle and abs((printed.high - printed.low) / 2 - half) < 0.011


def test_means_deviations_and_intervals_fit_each_other() -> None:
    tables = paper().fidelity, paper().attacks, paper().segmentation
    assert tables[0].rows.keys() == set(VERSIONS[:3])
    assert tables[1].rows.keys() == {"U-Net", "V-Net", "GAN", "CycleGAN"}
    assert tables[2].rows.keys() == set(PAIRS)
    for table in tables:
        for row in table.rows.values():
            assert all(fits(printed, table.source) for printed in row.each())


def test_table_1_has_the_oddity_that_the_section_names() -> None:
    assert all(row.me == row.mae for row in paper().fidelity.rows.values())
    assert all(row.me.mean != row.mae.mean for row in paper().attacks.rows.values())


def near(value: float, sd: float | None = 0.1) -> Estimate:
    return Estimate(value + 0.02, value, value + 0.04, 9, sd)


def complete() -> Ours:
    p = paper()

    def errors(table):
        return {name: Errors(*(near(x.mean) for x in row.each())) for name, row in table.items()}

    outlines = {
        pair: Outlines(*(near(x.mean) for x in row.each()))
        for pair, row in p.segmentation.rows.items()
    }
    scores = Scores(
        *(
            {cell: near(value, None) for cell, value in cells.items()}
            for cells in p.classification.rows.each()
        )
    )
    return Ours(
        Measured(errors(p.fidelity.rows), FACTS),
        Measured({version: value - 0.01 for version, value in p.fidelity.r_squared.items()}, FACTS),
        Measured(scores),
        Measured(outlines),
        Measured(dict.fromkeys(VERSIONS[:3], 0.9)),
        Measured(errors(p.attacks.rows)),
    )


def test_each_table_of_the_paper_stands_beside_ours() -> None:
    blocks = section(complete()).blocks
    tables = {block.title.split(":")[0]: block for block in blocks if isinstance(block, Table)}
    assert list(tables) == [
        "Table 1",
        "Fig. 6",
        *Scores.tables,
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
    full = complete().classification
    assert full is not None
    auc = {
        cell: value
        for cell, value in full.rows.auc.items()
        if cell.task == 2 and cell.trained_on == "original"
    }
    some = {
        "S_x = 8": Errors(None, None, None, near(40.0), None),
        "S_x = 2": Errors(*[near(30.0)] * 5),
    }
    scores = Scores[dict[Cell, Estimate]](auc, {}, {}, {})
    blocks = section(Ours(fidelity=Measured(some), classification=Measured(scores))).blocks
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


def test_parts_that_were_not_asked_for_are_not_mentioned() -> None:
    blocks = section(Ours(), [PartName.FIDELITY]).blocks
    texts = " ".join(block.text for block in blocks if isinstance(block, Text))
    assert "Table 1 is left out" in texts and "Fig. 6 is left out" in texts
    assert not any(f"Table {n}" in texts for n in (2, 3, 4)) and "Fig. 8" not in texts


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
    assert isinstance(rest, Table)
    assert rest.rows[0][3:] == ("−50 %", "−51 % to −49 %", "0 %", "no")
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
    assert attacks.by_network(NETWORKS)["V-Net"].psnr.value == 3.5


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
