"""An SVG picture as a part of an HTML page: no ids that clash, no style that leaks, colours that follow the page's."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree

_DROPPED = ("title", "metadata", "style")  # tool tips such as "edge3", and rules that would hold for the whole page
_COLOURED = ("fill", "stroke", "style")
_ROUND = {"stroke-linejoin": "round", "stroke-linecap": "butt"}


def inline_svg(
    picture: bytes | str, prefix: str, label: str, colours: Mapping[str, str], more: Mapping[str, str] | None = None
) -> str:
    """The picture as an <svg> element that scales to its place and reads as `label` to who does not see it.

    Ids that something refers to begin with `prefix`, the others are dropped. `colours` maps colours as the picture
    spells them, in lower case, to CSS values, such as variables of the page; text without a colour has the page's.
    `more` are attributes that the element gets besides.
    """
    root = ElementTree.fromstring(picture)
    for parent in root.iter():
        for child in list(parent):
            if _local(child.tag) in _DROPPED:
                parent.remove(child)
    values = [value for element in root.iter() for value in element.attrib.values()]
    referred = {name for value in values for name in re.findall(r"(?:^|url\()#([^)]+)", value)}
    for element in root.iter():
        element.tag = _local(element.tag)
        element.text, element.tail = (text if text and text.strip() else None for text in (element.text, element.tail))
        attributes = {_local(name): value for name, value in element.attrib.items() if _local(name) != "space"}
        element.attrib.clear()
        for name, value in attributes.items():
            if name == "class" or (name == "id" and value not in referred):
                continue
            element.set(name, _rewritten(name, value, prefix, colours))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": label, "fill": "currentColor", **_ROUND, **(more or {})})
    return ElementTree.tostring(root, encoding="unicode")


def natural_width(picture: bytes | str) -> float:
    """Its width in its own units, those in which a diagram's text has 16."""
    return float(ElementTree.fromstring(picture).attrib["viewBox"].split()[2])


def _local(name: str) -> str:
    """The name without its XML namespace, which HTML does without."""
    return name.rpartition("}")[2]


def _rewritten(name: str, value: str, prefix: str, colours: Mapping[str, str]) -> str:
    if name == "id":
        return prefix + value
    if name == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    if name in _COLOURED:
        value = re.sub(r"#[0-9A-Fa-f]{6}\b|\bwhite\b", lambda found: colours.get(found[0].lower(), found[0]), value)
        value = re.sub(r"font: ([\d.]+px) [^;]*", r"font-size: \1", value)  # in the page's typeface
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
    return value.replace("url(#", f"url(#{prefix}")
