import re

from imaging.io.itksnap import label_description
from imaging.labels import label_scheme


def test_every_label_has_its_index_colour_and_name() -> None:
    text = label_description(label_scheme(["kidney", 'a "big" tumour'], ["#0a14ff", "#ffffff"]))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    row = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"(.*)"')
    assert [row.fullmatch(line).groups() for line in lines] == [  # type: ignore[union-attr]
        ("0", "0", "0", "0", "0", "0", "0", "Clear Label"),
        ("1", "10", "20", "255", "1", "1", "1", "kidney"),
        ("2", "255", "255", "255", "1", "1", "1", "a 'big' tumour"),
    ]
