"""Draws a folder of images in the layout that `--data FOLDER` reads: `python scripts/examples/small_photos.py photos`.

Two classes, discs and squares of any colour and place, 40 to train and 10 to test of each: what a folder of photographs
of one's own looks like, and small enough to try a search on.
"""

import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw


def draw(folder: Path):
    """Writes train/<class>/* and test/<class>/*; the same pictures every time."""
    draws = random.Random(0)
    for split, count in (("train", 40), ("test", 10)):
        for name in ("disc", "square"):
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = Image.new("RGB", (32, 32), tuple(draws.randrange(100) for _ in range(3)))
                left, top, side = draws.randrange(16), draws.randrange(16), draws.randrange(8, 16)
                pen = ImageDraw.Draw(image)
                shape = pen.ellipse if name == "disc" else pen.rectangle
                shape((left, top, left + side, top + side), fill=tuple(draws.randrange(150, 256) for _ in range(3)))
                image.save(folder / split / name / f"{number}.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("give the folder to write to: python scripts/examples/small_photos.py photos")
    draw(Path(sys.argv[1]))
