"""How an operator looks in every picture: its kind's colour, and a shade and a line of its own.

The look depends on the operator's name and kind alone, so it is the same in both cells and in every figure. In style
"grey", fills and lines tell operators apart without colour, on paper or to any eye.
"""

from dataclasses import dataclass
from hashlib import sha256

STYLES = ("colour", "grey")

# Of a kind, in colour and in grey. Okabe and Ito's palette (2008), which colour-blind readers can tell apart; grey for
# what computes nothing, the strongest, vermilion, for what the user brought. In grey, the fill of the lightest shade,
# 0 to 255, and the line.
LOOKS = {
    "none": ("#BBBBBB", 255, "solid"),
    "skip": ("#7F7F7F", 255, "dashed"),
    "pooling": ("#56B4E9", 255, "dotted"),
    "convolution": ("#0072B2", 232, "dotted"),
    "separable": ("#E69F00", 232, "solid"),
    "dilated": ("#CC79A7", 232, "dashed"),
    "bottleneck": ("#009E73", 148, "solid"),
    "block": ("#D55E00", 72, "solid"),
}
GREY_STEP = 34  # that a darker shade takes off the fill; an eighth of the range, which print keeps apart
TINTS = (0.28, 0.55, 0.82)  # of the fill; black or white text is readable on each
DARKER = (0.0, 0.2, 0.4)  # the line, with the fill
LINES = ("solid", "dashed", "dotted")

# (shade, line) of what ships with the package: larger kernels are darker, variants of a block differ by their line.
SHADES = {
    name: look
    for look, names in {
        (0, "solid"): "none skip_connect max_pool_3x3 sep_conv_3x3 dil_conv_3x3 conv_7x1_1x7 sandglass",
        (1, "solid"): "avg_pool_3x3 sep_conv_5x5 dil_conv_5x5 inverted_residual",
        (2, "solid"): "sep_conv_7x7 bottleneck_depthwise",
        (0, "dashed"): "sandglass_released",
        (0, "dotted"): "sandglass_half",
        (1, "dashed"): "inverted_residual_t3",
        (1, "dotted"): "inverted_low_depthwise",
        (2, "dashed"): "bottleneck_depthwise2",
    }.items()
    for name in names.split()
}


@dataclass(frozen=True)
class Look:
    """Colours as #RRGGBB; `dash` is solid, dashed or dotted."""

    fill: str
    line: str
    text: str
    dash: str


def operator_look(name: str, kind: str, style: str = "colour") -> Look:
    """The look of an operator, registered or not."""
    shade, dash = SHADES.get(name) or _own_shade(name)
    colour, level, kinds_dash = LOOKS[kind]
    if style == "grey":
        level = max(0, level - GREY_STEP * shade)
        return Look(_hex([level] * 3), "#222222", _readable([level] * 3), kinds_dash if dash == "solid" else dash)
    channels = [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
    fill = [round(255 - TINTS[shade] * (255 - channel)) for channel in channels]
    line = [round((1 - DARKER[shade]) * channel) for channel in channels]
    return Look(_hex(fill), _hex(line), _readable(fill), dash)


def _own_shade(name: str) -> tuple[int, str]:
    """What an operator from elsewhere looks like, drawn from its name: two may look alike, their labels do not."""
    number = sha256(name.encode(errors="surrogatepass")).digest()[0]
    return number % len(TINTS), LINES[number // len(TINTS) % len(LINES)]


def _readable(fill: list[int]) -> str:
    """Nearly black or white, whichever has the larger contrast (WCAG 2.1) on the fill."""
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in fill]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#111111" if luminance > 0.179 else "#FFFFFF"


def _hex(channels: list[int]) -> str:
    return "#" + "".join(f"{channel:02X}" for channel in channels)
