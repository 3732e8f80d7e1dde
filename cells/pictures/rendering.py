"""DOT -> SVG, PNG and PDF, by the programs that are here.

`pip install` brings graphviz-pure, one program with its own fonts that needs nothing else. A system Graphviz is
preferred where there is one, for its text layout. Both draw the same picture, as long as the DOT keeps away from <SUB>
and from lists of fonts, which graphviz-pure does not know. It writes no PDF; there svglib turns its SVG into one.
"""

import importlib.metadata
import importlib.util
import io
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from search_spaces.errors import InputError, check_known

FORMATS = {  # and the options that each is drawn with
    "svg": ["-Tsvg"],
    "png": ["-Tpng"],
    "pdf": ["-Tpdf", "-Gmargin=0"],  # cropped to the drawing, to stand in a paper
}
SCREEN_DOTS_PER_INCH = 200  # of a PNG; a DARTS cell is about 2000 pixels wide
PRINT_DOTS_PER_INCH = 300


def write_files(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Writes each content under its name, whole or not at all; returns the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        os.replace(temporary, folder / name)
    return [folder / name for name in files]


def find_renderers(file_format: str, joined: bool = False) -> list[str]:
    """The programs here that write a format, the preferred first; for a PDF of `joined` cells, Graphviz' is no use.

    Raises InputError if there is none.
    """
    check_known("diagram format", file_format, FORMATS)
    has_svglib = importlib.util.find_spec("svglib") is not None
    if file_format == "pdf" and joined and not has_svglib:
        raise InputError('diagram format "pdf" of both cells needs svglib; ask for svg or png, or pip install svglib')
    can_pure = file_format != "pdf" or has_svglib
    programs = [program for program in (system_graphviz(), can_pure and graphviz_pure()) if program]
    if not programs and file_format == "pdf":
        raise InputError(
            'diagram format "pdf" needs a system Graphviz or svglib, and neither is here; ask for svg or png, or'
            " install one (apt, brew or conda install graphviz, or pip install svglib)"
        )
    if not programs:
        raise InputError(f'nothing here draws diagram format "{file_format}"; pip install graphviz-pure')
    return programs


def system_graphviz() -> str | None:
    """The `dot` on PATH, if it works and is Graphviz itself, not another program under that name."""
    program = shutil.which("dot")
    try:
        version = _run([program, "-V"]).stderr if program else b""
    except OSError:
        return None
    return program if b"graphviz version" in version else None


def graphviz_pure() -> str | None:
    """The program of the graphviz-pure package, found through the package: its folder may not be on PATH."""
    try:
        files = importlib.metadata.files("graphviz-pure") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    installed = (str(file.locate()) for file in files if file.stem == "graphviz-pure")
    return next(filter(shutil.which, installed), None) or shutil.which("graphviz-pure")


def render(dot: str, file_format: str, programs: Sequence[str], dots_per_inch: int = SCREEN_DOTS_PER_INCH) -> bytes:
    """The picture, by the first of the programs that can: a system Graphviz may lack the parts for PNG and PDF."""
    for program in programs:
        by_svglib = file_format == "pdf" and Path(program).stem == "graphviz-pure"
        options = list(FORMATS["svg" if by_svglib else file_format])
        if file_format == "png":
            options.append(f"-Gdpi={dots_per_inch}")
        drawn = _run([program, *options], dot.encode())
        if drawn.returncode == 0 and drawn.stdout:
            return pdf_of(drawn.stdout) if by_svglib else drawn.stdout
    reason = drawn.stderr.decode(errors="replace").strip().split("\n")[0]
    raise InputError(f"{program} cannot draw {file_format}: {reason}; reinstall it, or ask for another format")


def _run(command: list[str], given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """In a session of its own, so that Ctrl-C, or torchrun's signal to a whole group, does not spoil the picture."""
    return subprocess.run(command, input=given, capture_output=True, start_new_session=True)


def pdf_of(svg: bytes) -> bytes:
    """A PDF page of the size of the SVG, with its text as text, in a font that is embedded, as publishers ask."""
    import reportlab
    from reportlab.graphics import renderPDF
    from reportlab.pdfgen.canvas import Canvas
    from svglib.svglib import register_font, svg2rlg

    fonts = Path(reportlab.__file__).parent / "fonts"  # Bitstream Vera, which knows − and —
    for file, style in (("Vera.ttf", "normal"), ("VeraIt.ttf", "italic")):
        register_font("Arial", str(fonts / file), style=style)
    drawing = svg2rlg(io.BytesIO(svg))
    if drawing is None:
        raise InputError("svglib cannot read the picture that was drawn; ask for svg or png")
    page = io.BytesIO()
    canvas = Canvas(page, pagesize=(drawing.width, drawing.height), invariant=True)  # no date: the same bytes again
    renderPDF.draw(drawing, canvas, 0, 0)
    canvas.save()
    return page.getvalue()


def size_in_points(svg: bytes) -> tuple[float, float]:
    """Width and height of a picture that Graphviz drew. Raises InputError if it does not say them."""
    found = re.search(rb'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', svg)
    if found is None:
        raise InputError("the picture that was drawn has no size; reinstall the program that drew it (graphviz-pure)")
    return float(found[1]), float(found[2])
