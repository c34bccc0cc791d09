"""Simple drawn places: bold shapes that still read at 128 pixels, each with a little variation."""

from __future__ import annotations

import random


def _rect(x: float, y: float, w: float, h: float, fill: str, extra: str = "") -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" fill="{fill}" {extra}/>'


def _circle(x: float, y: float, r: float, fill: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}" fill="{fill}"/>'


def _path(d: str, fill: str) -> str:
    return f'<path d="{d}" fill="{fill}"/>'


def _hill(y: float, top: float, fill: str) -> str:
    return _path(f"M0 {y:.1f} Q 64 {top:.1f} 128 {y:.1f} V128 H0Z", fill)


def _sky(color: str) -> str:
    return _rect(0, 0, 128, 128, color)


def _beach(r: random.Random) -> str:
    sea = r.uniform(58, 70)
    return (_sky("#9fdcf7") + _circle(r.uniform(14, 114), r.uniform(14, 24), 10, "#ffe27a") + _rect(0, sea, 128, 30, "#2f9bd6")
            + _rect(0, sea + 8, 128, 3, "#7cc7ec") + _hill(96, 84, "#f0d49a"))  # fmt: skip


def _forest(r: random.Random) -> str:
    out = _sky("#bfe6c8")
    for _ in range(6):
        x, h = r.uniform(4, 124), r.uniform(52, 80)
        out += _rect(x - 3, 92 - h * 0.3, 6, 40, "#6b4a2b") + _path(f"M{x - 17:.1f} 88 L{x:.1f} {88 - h:.1f} L{x + 17:.1f} 88Z", r.choice(["#1f7a3d", "#2a8f4a", "#176433"]))  # fmt: skip
    return out + _hill(100, 90, "#4c9a4f")


def _snow(r: random.Random) -> str:
    out = _sky("#c9dff2")
    for x in (r.uniform(10, 45), r.uniform(75, 115)):
        out += _path(f"M{x - 45:.1f} 96 L{x:.1f} 22 L{x + 45:.1f} 96Z", "#8ba3bd")
        out += _path(f"M{x - 14:.1f} 45 L{x:.1f} 22 L{x + 14:.1f} 45 L{x + 4:.1f} 40 L{x - 4:.1f} 47Z", "#ffffff")
    out += _hill(94, 82, "#f7fbff")
    return out + "".join(_circle(r.uniform(0, 128), r.uniform(0, 90), 2, "#ffffff") for _ in range(16))


def _city(r: random.Random) -> str:
    out = _sky("#17204a") + _circle(r.uniform(14, 114), 16, 8, "#f6efc4")
    x = -4.0
    while x < 128:
        w, h = r.uniform(15, 26), r.uniform(40, 84)
        out += _rect(x, 112 - h, w, h, r.choice(["#2c3a75", "#34437f", "#26316a"]))
        for wx in range(int(x) + 3, int(x + w) - 4, 7):
            for wy in range(int(116 - h), 106, 10):
                if r.random() < 0.6:
                    out += _rect(wx, wy, 4, 5, "#ffd75e")
        x += w + 2
    return out + _rect(0, 112, 128, 16, "#2a2f45")


def _desert(r: random.Random) -> str:
    x = r.choice([r.uniform(8, 26), r.uniform(100, 118)])
    cactus = _rect(x - 4, 52, 8, 44, "#3c8f4e", 'rx="4"') + _rect(x - 13, 62, 6, 16, "#3c8f4e", 'rx="3"') + _rect(x + 7, 58, 6, 18, "#3c8f4e", 'rx="3"')  # fmt: skip
    cactus += _rect(x - 13, 74, 13, 5, "#3c8f4e") + _rect(x, 72, 13, 5, "#3c8f4e")
    return _sky("#ffd9a0") + _circle(r.uniform(30, 98), 20, 12, "#ff9d3c") + _hill(92, 72, "#e8b466") + cactus + _hill(104, 94, "#d99b4a")  # fmt: skip


def _meadow(r: random.Random) -> str:
    out = _sky("#a8def9") + _hill(84, r.uniform(62, 74), "#7cc95a") + _hill(100, 88, "#5fb446")
    for _ in range(2):
        x, y = r.uniform(10, 110), r.uniform(10, 26)
        out += _circle(x, y, 8, "#ffffff") + _circle(x + 9, y + 2, 6, "#ffffff") + _circle(x - 9, y + 2, 6, "#ffffff")
    return out + "".join(_circle(r.uniform(2, 126), r.uniform(92, 126), 2.6, r.choice(["#ff6f91", "#ffd84a", "#ffffff"])) for _ in range(14))  # fmt: skip


def _bedroom(r: random.Random) -> str:
    x = r.choice([12, 84])
    return (_sky("#e7c9e0") + _rect(0, 98, 128, 30, "#a9764d") + _rect(x, 16, 32, 32, "#ffffff") + _rect(x + 3, 19, 26, 26, "#1f2a5c")
            + _circle(x + 18, 30, 6, "#f6efc4") + _rect(0, 78, 128, 26, "#7a8de0") + _rect(0, 72, 128, 10, "#f4f4fb")
            + _rect(104 - x, 60, 36, 16, "#ffffff", 'rx="6"'))  # fmt: skip


def _kitchen(r: random.Random) -> str:
    out = _sky("#fbe7b5")
    out += "".join(_rect(4 + i * 31, 6, 28, 30, "#59b3a8") + _circle(27 + i * 31, 21, 2, "#ffffff") for i in range(4))
    out += _rect(0, 80, 128, 6, "#8a5a35") + _rect(0, 86, 128, 42, "#e08a5b")
    x = r.choice([18, 100])
    return out + _rect(x - 9, 64, 18, 16, "#c9ced6", 'rx="3"') + _rect(x - 12, 62, 24, 4, "#8d949c")


def _library(r: random.Random) -> str:
    out = _sky("#6e4527")
    for shelf in range(4):
        y = 4 + shelf * 31
        x = 3.0
        while x < 122:
            w, h = r.uniform(4, 8), r.uniform(17, 25)
            out += _rect(
                x, y + 26 - h, w, h, r.choice(["#c0392b", "#2f6fb3", "#d9a441", "#3f8f57", "#8e5bb5", "#e8dcc0"])
            )
            x += w + 1.2
        out += _rect(0, y + 26, 128, 4, "#4a2c16")
    return out


def _space(r: random.Random) -> str:
    out = _sky("#0c0f2b") + "".join(_circle(r.uniform(0, 128), r.uniform(0, 128), r.uniform(0.8, 1.8), "#ffffff") for _ in range(34))  # fmt: skip
    x, y = r.choice([24, 104]), r.uniform(20, 40)
    color = r.choice(["#e07a5f", "#b084e0", "#5fb6e0"])
    ring = f'<ellipse cx="{x}" cy="{y:.1f}" rx="23" ry="5" fill="none" stroke="#f2d492" stroke-width="3"/>'
    return out + _circle(x, y, 14, color) + ring


def _underwater(r: random.Random) -> str:
    out = _sky("#1c7fb8") + _rect(0, 0, 128, 24, "#43a6d8")
    for _ in range(6):
        x = r.uniform(2, 126)
        out += f'<path d="M{x:.1f} 112 q-7 -12 0 -24 q7 -12 0 -{r.uniform(14, 26):.1f}" stroke="#2fae6b" stroke-width="5" fill="none"/>'
    out += "".join(_circle(r.uniform(4, 124), r.uniform(8, 90), r.uniform(2, 4), "#bfe7fa") for _ in range(9))
    return out + _hill(112, 102, "#d8be86")


def _sunset(r: random.Random) -> str:
    y = r.uniform(62, 74)
    return (_sky("#f4637a") + _rect(0, 26, 128, 30, "#f98b5f") + _rect(0, 50, 128, 50, "#ffc15e")
            + _circle(r.uniform(30, 98), y, 17, "#fff0a8") + _hill(92, 74, "#7a3d6b") + _hill(106, 96, "#55284f"))  # fmt: skip


def _workshop(r: random.Random) -> str:
    out = _sky("#b99b72") + _rect(8, 10, 112, 46, "#8a6a44")
    for i in range(5):
        x = 18 + i * 22
        kind = r.randrange(3)
        if kind == 0:
            out += _rect(x, 18, 5, 30, "#d6dade") + _rect(x - 5, 16, 15, 8, "#9aa3ab")
        elif kind == 1:
            out += _circle(x + 3, 32, 9, "#d98a3a") + _circle(x + 3, 32, 4, "#8a6a44")
        else:
            out += _rect(x, 16, 6, 22, "#d84a3f") + _rect(x + 1, 38, 4, 12, "#d6dade")
    return out + _rect(0, 82, 128, 8, "#5f4328") + _rect(0, 90, 128, 38, "#7d5a37")


def _rain(r: random.Random) -> str:
    out = _sky("#8f9fb3") + _rect(0, 104, 128, 24, "#5d6b7c")
    for x in (r.uniform(10, 50), r.uniform(70, 118)):
        out += _circle(x, 14, 13, "#5f6e80") + _circle(x + 13, 17, 10, "#5f6e80") + _circle(x - 13, 17, 10, "#5f6e80")
    for _ in range(34):
        x, y = r.uniform(0, 128), r.uniform(24, 120)
        out += f'<path d="M{x:.1f} {y:.1f} l-2 8" stroke="#dcecff" stroke-width="1.8"/>'
    return out


_DRAW = {
    "beach": _beach, "forest": _forest, "snow": _snow, "city": _city, "desert": _desert, "meadow": _meadow,
    "bedroom": _bedroom, "kitchen": _kitchen, "library": _library, "space": _space, "underwater": _underwater,
    "sunset": _sunset, "workshop": _workshop, "rain": _rain,
}  # fmt: skip


def place_svg(place: str, variation: int) -> str:
    """SVG elements of a place in a 128 x 128 box; the same ``variation`` always gives the same picture."""
    return _DRAW[place](random.Random(variation))
