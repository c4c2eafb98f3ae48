"""Makes squares.ttf, a font for tests: 飞 is a square, Ж is two em wide.

    pip install fonttools==4.68.0 && python tests/reference/make_font.py
"""

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

EM = 1400  # so that 100 units are a pixel of runboard's letters


def square(left, bottom, side):
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    pen.lineTo((left, bottom + side))
    pen.lineTo((left + side, bottom + side))
    pen.lineTo((left + side, bottom))
    pen.closePath()
    return pen.glyph()


builder = FontBuilder(EM, isTTF=True)
builder.setupGlyphOrder([".notdef", "plane", "wide"])
builder.setupCharacterMap({ord("飞"): "plane", ord("Ж"): "wide"})
builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "plane": square(200, 200, 1000), "wide": square(0, 0, 700)})
builder.setupHorizontalMetrics({".notdef": (EM, 0), "plane": (EM, 200), "wide": (2 * EM, 0)})
builder.setupHorizontalHeader(ascent=1200, descent=-200)
builder.setupHead(unitsPerEm=EM, created=0, modified=0)
builder.save(Path(__file__).parent / "squares.ttf")
