"""Corpora in every layout, copied small: what is in them, whose it is, splits by patient."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from primis.datasets.catalogue import catalogue
from primis.datasets.corpus import Corpus, open_corpora, split
from primis.datasets.sample import Sample, read_grey, read_mask
from primis.datasets.tables import years
from primis.errors import UsageError
from primis.imaging.phantom import draw_phantom, phantom_dicom

PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def put(path: Path, *, size: int = 32, seed: int = 0) -> Path:
    """A small image, 16 bits where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".dicom", ".dcm"):
        path.write_bytes(phantom_dicom(size, seed=seed))
        return path
    deep = np.tile(draw_phantom(32, seed=seed), (size // 32, size // 32))
    PIL.Image.fromarray(deep if "16bit" in path.name else (deep >> 4).astype(np.uint8)).save(path)
    return path


def put_mask(path: Path, inside: tuple[slice, slice], *, size: int = 32, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size, size), np.uint8)
    pixels[inside] = value
    PIL.Image.fromarray(pixels).save(path)
    return path


def write_table(path: Path, header: str, *rows: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows, ""]), encoding=encoding)
    return path


def the_corpus(data: Path, **how) -> Corpus:
    (corpus,) = open_corpora(data, **how)
    return corpus


def by_name(corpus: Corpus) -> dict[str, Sample]:
    assert len({s.name for s in corpus.samples}) == len(corpus.samples)
    assert all(s.file.is_file() for s in corpus.samples)
    return {s.name: s for s in corpus.samples}


def patients_of(corpus: Corpus, part: str) -> set[str]:
    return {s.patient for s in corpus.samples if s.split == part}


# one test for each published layout


NIH = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def nih(root: Path, *, size: int = 32) -> Path:
    put(root / "images_001" / "images" / "00000001_000.png", size=size)
    put(root / "images_002" / "images" / "00000002_000.png", size=size)
    put(root / "images_002" / "images" / "00000002_001.png", size=size)
    put(root / "images_002" / "images" / "00000003_000.png", size=size)
    rows = (
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2048,3072,0.1,0.2,",
        "00000002_000.png,No Finding,0,2,414,F,PA,2500,2048,0.168,0.168,",
        "00000002_001.png,Infiltration|Pneumonia,1,2,013M,F,AP,2500,2048,0.168,0.168,",
        "00000003_000.png,Pleural_Thickening,0,3,61,M,PA,2500,2048,0.168,0.168,",
        "00000004_000.png,No Finding,0,4,61,M,PA,2500,2048,0.168,0.168,",
    )
    write_table(root / "Data_Entry_2017.csv", NIH, *rows, encoding="utf-8-sig")
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000003_000.png\n")
    (root / "test_list.txt").write_text(
        "00000002_000.png\r\n00000002_001.png\r\n00000004_000.png\r\n"
    )
    return root


def test_chestx_ray14(tmp_path: Path) -> None:
    corpus = the_corpus(nih(tmp_path))
    found = by_name(corpus)
    first = found["images_001/images/00000001_000.png"]
    assert (first.patient, first.label, first.split, first.age, first.sex) == (
        "1",
        None,
        "train",
        58,
        "M",
    )
    normal, sick = (found[f"images_002/images/00000002_00{n}.png"] for n in (0, 1))
    assert (normal.label, normal.split, normal.age, normal.patient) == ("normal", "test", None, "2")
    assert (sick.label, sick.age) == ("pneumonia", pytest.approx(13 / 12))
    assert found["images_002/images/00000003_000.png"].label == "pleural thickening"
    assert corpus.classes == ("normal", "pneumonia", "pleural thickening")
    assert "1 of 5 images in the table are not on disk" in corpus.notes
    assert corpus.citation and corpus.licence and corpus.adult
    assert all(s.spacing_mm is None for s in corpus.samples)  # 32 pixels are not what was published


def test_the_spacing_is_that_of_the_published_pixels(tmp_path: Path) -> None:
    found = by_name(the_corpus(nih(tmp_path, size=1024)))
    assert found["images_001/images/00000001_000.png"].spacing_mm == pytest.approx(
        (0.2 * 3, 0.1 * 2)
    )


def test_kermany(tmp_path: Path) -> None:
    for name in (
        "train/NORMAL/IM-0115-0001.jpeg",
        "train/NORMAL/NORMAL2-IM-0383-0001.jpeg",
        "train/PNEUMONIA/person1_bacteria_1.jpeg",
        "train/PNEUMONIA/person1_bacteria_2.jpeg",
        "train/PNEUMONIA/person7_virus_12.jpeg",
        "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
        "test/NORMAL/IM-0001-0001.jpeg",
        "test/PNEUMONIA/person1_virus_6.jpeg",
    ):
        put(tmp_path / "archive" / "chest_xray" / name)
    corpus = the_corpus(tmp_path)
    found = by_name(corpus)
    assert Counter(s.label for s in corpus.samples) == {"normal": 3, "bacterial": 3, "viral": 2}
    assert (
        found["train/PNEUMONIA/person1_bacteria_1.jpeg"].patient
        == found["test/PNEUMONIA/person1_virus_6.jpeg"].patient
        == "person1"
    )
    assert found["train/NORMAL/NORMAL2-IM-0383-0001.jpeg"].patient == "NORMAL2-IM-0383"
    assert found["val/PNEUMONIA/person1946_bacteria_4874.jpeg"].split == "train"
    assert corpus.adult is False
    assert corpus.classes == ("normal", "bacterial", "viral")
    parted = split(corpus)
    assert patients_of(parted, "test") == {"person1", "IM-0001"}
    assert len(parted.samples) == 6
    assert any(note.startswith("2 images left out") for note in parted.notes)


def test_kermany_as_first_published(tmp_path: Path) -> None:
    put(tmp_path / "train/NORMAL/NORMAL-1003233-0001.jpeg")
    put(tmp_path / "train/PNEUMONIA/BACTERIA-1008087-0001.jpeg")
    put(tmp_path / "test/PNEUMONIA/VIRUS-1009-0002.jpeg")
    assert {(s.patient, s.label, s.split) for s in the_corpus(tmp_path).samples} == {
        ("1003233", "normal", "train"),
        ("1008087", "bacterial", "train"),
        ("1009", "viral", "test"),
    }


def test_vindr_takes_the_majority(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "train/c", "test/d"):
        put(tmp_path / "1.0.0" / f"{name}.dicom", seed=ord(name[-1]))
    header = "image_id,rad_id,Aortic enlargement,Nodule/Mass,Pneumonia,Tuberculosis,No finding"
    rows = (
        "a,R1,0,0,0,1,0",
        "a,R2,0,0,0,1,0",
        "a,R3,0,1,0,0,0",
        "b,R1,0,0,0,0,1",
        "b,R2,0,0,0,0,1",
        "b,R3,1,0,0,0,0",
    )
    rows += ("c,R8,1,0,1,0,0", "c,R9,1,0,1,0,0", "c,R10,0,0,0,0,1")
    write_table(tmp_path / "1.0.0" / "annotations" / "image_labels_train.csv", header, *rows)
    write_table(
        tmp_path / "1.0.0" / "annotations" / "image_labels_test.csv",
        header.replace("rad_id,", ""),
        "d,0,1,0,0,0",
    )
    corpus = the_corpus(tmp_path)
    assert {(s.name, s.label, s.split) for s in corpus.samples} == {
        ("train/a.dicom", "tuberculosis", "train"),
        ("train/b.dicom", "normal", "train"),
        ("train/c.dicom", "pneumonia", "train"),
        ("test/d.dicom", "nodule/mass", "test"),
    }
    assert any("patients are not published" in note for note in corpus.notes)
    grey = read_grey(corpus.samples[0])
    assert (grey.pixels.shape, grey.bit_depth, grey.spacing_mm) == (
        (32, 32),
        12,
        pytest.approx((350 / 32, 350 / 32), rel=1e-4),
    )


@pytest.mark.parametrize("packed", [False, True])
def test_padchest_is_16_bit_and_frontal_only(tmp_path: Path, packed: bool) -> None:
    for n, name in enumerate(("0/a_16bit.png", "0/b_16bit.png", "1/c_16bit.png", "1/d_16bit.png")):
        put(tmp_path / name, seed=n)
    header = (
        "ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,"
        "PatientBirth,PatientSex_DICOM,Projection,Report,Labels"
    )
    rows = (
        "a_16bit.png,0,20140915,s1,p1,1930.0,F,PA,sin hallazgos,\"['normal']\"",
        "b_16bit.png,0,20140915,s1,p1,1930.0,F,L,sin hallazgos,\"['normal']\"",
        "c_16bit.png,1,20120101,s2,p2,,M,AP_horizontal,"
        "\"infiltrado, base\",\"['infiltrates', 'pneumonia']\"",
        "d_16bit.png,1,20120101,s3,p3,2000,M,PA,,\"['unchanged', 'pleural effusion']\"",
    )
    table = write_table(tmp_path / PADCHEST, header, *rows)
    if packed:
        table.with_suffix(".csv.gz").write_bytes(gzip.compress(table.read_bytes()))
        table.unlink()
    corpus = the_corpus(tmp_path)
    assert [(s.name, s.patient, s.label, s.age, s.sex, s.split) for s in corpus.samples] == [
        ("0/a_16bit.png", "p1", "normal", 84, "F", None),
        ("1/c_16bit.png", "p2", "pneumonia", None, "M", None),
        ("1/d_16bit.png", "p3", "pleural effusion", 12, "M", None),
    ]
    assert "1 of 4 images in the table are no frontal views and were left out" in corpus.notes
    grey = read_grey(corpus.samples[0])
    assert grey.pixels.dtype == np.uint16 and grey.bit_depth == 16
    assert np.array_equal(grey.pixels, draw_phantom(32, seed=0))
    assert corpus.adult is None


def test_chexpert(tmp_path: Path) -> None:
    root = tmp_path / "CheXpert-v1.0-small"
    findings = "No Finding,Cardiomegaly,Pneumonia,Pleural Effusion,Support Devices"
    header = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{findings}"
    lines = {
        "train/patient00001/study1/view1_frontal.jpg": "Female,68,Frontal,AP,1.0,,,,1.0",
        "train/patient00001/study1/view2_lateral.jpg": "Female,68,Lateral,,1.0,,,,1.0",
        "train/patient00002/study2/view1_frontal.jpg": "Male,87,Frontal,PA,,,-1.0,1.0,",
        "train/patient00003/study1/view1_frontal.jpg": "Male,31,Frontal,AP,,0.0,,1.0,1.0",
        "valid/patient64541/study1/view1_frontal.jpg": "Unknown,22,Frontal,AP,0.0,1.0,1.0,0.0,0.0",
    }
    for name in lines:
        put(root / name)
    for part in ("train", "valid"):
        rows = [f"{root.name}/{name},{row}" for name, row in lines.items() if name.startswith(part)]
        write_table(root / f"{part}.csv", header, *rows)
    corpus = the_corpus(root)
    assert [(s.patient, s.label, s.split, s.age, s.sex) for s in corpus.samples] == [
        ("patient00001", "normal", "train", 68, "F"),
        ("patient00002", None, "train", 87, "M"),
        ("patient00003", "pleural effusion", "train", 31, "M"),
        ("patient64541", "pneumonia", "test", 22, None),
    ]
    assert corpus.adult is True


def test_covidx(tmp_path: Path) -> None:
    for name in ("train/a.png", "train/b c.jpg", "train/d.png", "test/a.png"):
        put(tmp_path / name)
    (tmp_path / "train_COVIDx9A.txt").write_text(
        "3 a.png COVID-19 cohen\n3 b c.jpg pneumonia fig1\nx d.png normal rsna\n"
    )
    (tmp_path / "train_COVIDx9B.txt").write_text("3 a.png positive cohen\n")
    (tmp_path / "test_COVIDx9A.txt").write_text("9 a.png negative\n")
    assert {(s.name, s.patient, s.label, s.split) for s in the_corpus(tmp_path).samples} == {
        ("train/a.png", "3 cohen", "covid", "train"),
        ("train/b c.jpg", "3 fig1", "pneumonia", "train"),
        ("train/d.png", "x rsna", "normal", "train"),
        ("test/a.png", "9", "other", "test"),
    }


def test_montgomery_and_shenzhen_beside_each_other(tmp_path: Path) -> None:
    left, right = (slice(8, 24), slice(2, 10)), (slice(8, 24), slice(20, 30))
    one, other = tmp_path / "MontgomerySet", tmp_path / "ChinaSet_AllFiles"
    put(one / "CXR_png" / "MCUCXR_0001_0.png")
    put_mask(one / "ManualMask" / "leftMask" / "MCUCXR_0001_0.png", left, value=1)
    put_mask(one / "ManualMask" / "rightMask" / "MCUCXR_0001_0.png", right)
    write_table(
        one / "ClinicalReadings" / "MCUCXR_0001_0.txt",
        "Patient's Sex: F ",
        "Patient's Age: 027Y",
        "normal",
    )
    put(one / "CXR_png" / "MCUCXR_0104_1.png")
    put(other / "CXR_png" / "CHNCXR_0001_0.png")
    put_mask(other / "mask" / "CHNCXR_0001_0_mask.png", left)
    write_table(other / "ClinicalReadings" / "CHNCXR_0001_0.txt", "male 16month", "normal")
    put(other / "CXR_png" / "CHNCXR_0327_1.png")
    write_table(other / "ClinicalReadings" / "CHNCXR_0327_1.txt", "femal 37yrs", "STB, mal-shaped")
    shenzhen, montgomery = open_corpora(tmp_path)
    healthy, ill = montgomery.samples
    assert (healthy.patient, healthy.label, healthy.age, healthy.sex) == (
        "MCUCXR_0001",
        "normal",
        27,
        "F",
    )
    assert (ill.label, ill.age, ill.sex, ill.masks) == ("tuberculosis", None, None, ())
    assert healthy.spacing_mm == (0.0875, 0.0875) == read_grey(healthy).spacing_mm
    expected = np.zeros((32, 32), bool)
    expected[left] = expected[right] = True
    assert np.array_equal(read_mask(healthy, (32, 32)), expected)
    boy, woman = shenzhen.samples
    assert (boy.sex, boy.age, woman.sex, woman.age) == ("M", pytest.approx(16 / 12), "F", 37)
    assert len(boy.masks) == 1 and woman.masks == ()


def test_two_layouts_in_one_folder_are_told_apart_only_by_name(tmp_path: Path) -> None:
    put(tmp_path / "CXR_png" / "MCUCXR_0001_0.png")
    put(tmp_path / "CXR_png" / "CHNCXR_0001_0.png")
    with pytest.raises(UsageError, match='fits the layouts "montgomery, shenzhen"'):
        open_corpora(tmp_path)
    assert [s.patient for s in the_corpus(tmp_path, layout="shenzhen").samples] == ["CHNCXR_0001"]


def test_every_layout_says_whose_it_is() -> None:
    assert len(catalogue()) == 8
    for layout in catalogue().values():
        assert (
            layout.title
            and layout.citation
            and layout.licence
            and layout.url.startswith("https://")
        )
        assert layout.reader in ("findings", "names")


# tables and plain folders


def own_table(
    root: Path, *rows: str, header: str = "file,label,patient,split,mask,age,sex", **how
) -> Path:
    return write_table(root / "mine.csv", header, *rows, **how)


def test_a_table_with_everything_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    put(tmp_path / "in" / "a.png")
    put(tmp_path / "in" / "b.png")
    put_mask(tmp_path / "in" / "l.png", (slice(0, 4), slice(0, 4)))
    put_mask(tmp_path / "in" / "r.png", (slice(4, 8), slice(4, 8)))
    rows = (
        "in\\a.png,normal,1,train,in/l.png; in/r.png,41,female",
        "in/b.png,,,validation,in/none.png,,",
        "in/c.png,normal,3,test,,,",
    )
    table = own_table(tmp_path, *rows, encoding="utf-8-sig")
    corpus = the_corpus(table)
    assert corpus == the_corpus(tmp_path) and corpus.name == "mine"
    a, b = corpus.samples
    assert (a.name, a.label, a.patient, a.split, a.age, a.sex) == (
        "in/a.png",
        "normal",
        "1",
        "train",
        41,
        "F",
    )
    assert read_mask(a, (32, 32)).sum() == 32 and read_mask(a, (64, 64)).sum() == 128
    assert (b.label, b.patient, b.split, b.masks) == (None, "in/b.png", "val", ())
    assert len(corpus.notes) == 3 and "1 of 3 images in the table are not on disk" in corpus.notes
    with pytest.raises(UsageError, match=r'"in/b\.png" has no mask'):
        read_mask(b, (32, 32))


def test_several_tables_are_several_corpora_and_names_tell_children(tmp_path: Path) -> None:
    put(tmp_path / "x.png")
    put(tmp_path / "person3_virus_1.png")
    write_table(tmp_path / "adult-covid.csv", "file,label,patient", "x.png,covid,1")
    write_table(tmp_path / "kids.csv", "file,label,patient", "person3_virus_1.png,viral,person3")
    write_table(tmp_path / "older.csv", "file,label,patient,age", "x.png,covid,1,70")
    write_table(tmp_path / "unrelated.csv", "caf\xe9,tea", "1,2", encoding="latin-1")
    adults, kids, older = open_corpora(tmp_path)
    assert (adults.adult, kids.adult, older.adult) == (True, False, True)
    assert (
        adults.citation == ""
        and "Kermany" in kids.citation
        and any("learns age" in note for note in kids.notes)
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("nowhere.png,normal,1,,,,", "names 1 images, expected at least one of them on disk"),
        ("a.png,normal,1,someday,,,", 'has split "someday" in line 2, expected train, val or test'),
        ("a.png,normal,1,,,,\na.png,normal,1,,,,", 'names "a.png" twice, again in line 3'),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_in_one_line(
    tmp_path: Path, row: str, message: str
) -> None:
    put(tmp_path / "a.png")
    with pytest.raises(UsageError) as error:
        open_corpora(own_table(tmp_path, row))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_what_is_not_understood_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "latin.csv"
    bad.write_bytes("file,label,patient\ncaf\xe9.png,a,1\n".encode("latin-1"))
    text = write_table(tmp_path / "text.txt", "nothing")
    lacking = write_table(tmp_path / "lacking.csv", "file,label", "a.png,x")
    for data, how, message in (
        (tmp_path / "none", {}, "does not exist"),
        (tmp_path / "empty", {}, '"Data_Entry_2017*.csv"'),
        (
            tmp_path / "empty",
            {"layout": "padchest"},
            'is not of layout "padchest", expected "PADCHEST',
        ),
        (
            tmp_path / "empty",
            {"layout": "table"},
            'no table (.csv) with columns "file, label, patient"',
        ),
        (
            tmp_path / "empty",
            {"layout": "mimic"},
            'layout "mimic" is unknown, expected table, images, classes, chestx-ray14',
        ),
        (bad, {}, "expected UTF-8 text"),
        (text, {}, "expected a folder, or a table (.csv)"),
        (lacking, {}, 'has no column "patient"'),
    ):
        with pytest.raises(UsageError) as error:
            open_corpora(data, **how)
        assert message in str(error.value) and "\n" not in str(error.value)


def test_a_layout_without_its_images_is_refused(tmp_path: Path) -> None:
    write_table(
        tmp_path / "Data_Entry_2017.csv",
        NIH,
        "00000001_000.png,No Finding,0,1,58,M,PA,2048,2048,0.1,0.1,",
    )
    with pytest.raises(UsageError, match="none of the images"):
        open_corpora(tmp_path)
    write_table(tmp_path / "Data_Entry_2017.csv", "Image,Labels", "a.png,b")
    with pytest.raises(UsageError, match='has no column "Image Index"'):
        open_corpora(tmp_path)


def test_a_plain_folder_has_images_and_masks_but_no_labels(tmp_path: Path) -> None:
    put(tmp_path / "normal" / "a.png")
    put_mask(tmp_path / "normal" / "a.mask.png", (slice(0, 32), slice(0, 16)))
    put(tmp_path / "sick" / "b.png")
    write_table(tmp_path / "labels.csv", "image,class", "a.png,normal")
    corpus = the_corpus(tmp_path)
    assert [(s.name, s.label, s.patient) for s in corpus.samples] == [
        ("normal/a.png", None, "normal/a.png"),
        ("sick/b.png", None, "sick/b.png"),
    ]
    assert read_mask(corpus.samples[0], (64, 64)).mean() == 0.5
    assert corpus.name == tmp_path.name and corpus.classes == ()
    assert any('"labels.csv" was not read' in note for note in corpus.notes)


def test_folders_are_classes_only_where_told(tmp_path: Path) -> None:
    for name in ("train/Normal/a.png", "train/sick/b.png", "valid/sick/c.png"):
        put(tmp_path / name)
    corpus = the_corpus(tmp_path, layout="classes")
    assert [(s.label, s.split) for s in corpus.samples] == [
        ("normal", "train"),
        ("sick", "train"),
        ("sick", "val"),
    ]
    assert corpus.classes == ("normal", "sick")


def test_corpora_of_the_same_name_are_numbered(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        put(tmp_path / folder / "CXR_png" / "MCUCXR_0001_0.png")
    assert [c.name for c in open_corpora(tmp_path)] == ["montgomery", "montgomery-2"]


def test_colours_become_luma_and_monochrome1_stays(tmp_path: Path) -> None:
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 0] = 200
    PIL.Image.fromarray(colour).save(tmp_path / "a.png")
    assert np.all(read_grey(Sample(tmp_path / "a.png", "a.png", "1")).pixels == 60)
    import pydicom

    put(tmp_path / "b.dcm")
    dataset = pydicom.dcmread(tmp_path / "b.dcm")
    dataset.PhotometricInterpretation = "MONOCHROME1"
    dataset.save_as(tmp_path / "b.dcm")
    grey = read_grey(Sample(tmp_path / "b.dcm", "b.dcm", "1"))
    assert grey.photometric == "MONOCHROME1" and np.array_equal(grey.pixels, dataset.pixel_array)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("058Y", 58),
        ("27", 27),
        ("female 64days", 64 / 365.25),
        ("18M", 1.5),
        ("414", None),
        ("", None),
        ("none", None),
    ],
)
def test_ages(text: str, age: float | None) -> None:
    assert years(text) == (pytest.approx(age) if age is not None else None)


def test_with_a_seed_corpora_come_split(tmp_path: Path) -> None:
    for n in range(10):
        put(tmp_path / f"{n}.png")
    assert Counter(s.split for s in the_corpus(tmp_path, seed=0).samples) == {
        "train": 7,
        "val": 1,
        "test": 2,
    }
    assert {s.split for s in the_corpus(tmp_path).samples} == {None}


def test_the_real_collection(real_data: Path) -> None:
    corpora = open_corpora(real_data)
    assert {c.name: len(c.samples) for c in corpora} == {
        "cxr-nih": 799,
        "cxr-children": 462,
        "cxr-adult-covid": 162,
    }
    for corpus in corpora:
        assert split(corpus) == corpus
    assert {c.name: c.adult for c in corpora} == {
        "cxr-nih": True,
        "cxr-children": False,
        "cxr-adult-covid": True,
    }
