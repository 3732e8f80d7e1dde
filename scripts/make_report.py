"""Make one HTML file of what is in run folders: `python scripts/make_report.py runs/search/darts/seed0`."""

import sys

from nas.commands.report import make_report

if __name__ == "__main__":
    sys.exit(make_report())
