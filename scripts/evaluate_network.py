"""Use a trained network: `python scripts/evaluate_network.py runs/train/darts_v2/seed0 --data digits`."""

import sys

from nas.commands.evaluate import evaluate_network

if __name__ == "__main__":
    sys.exit(evaluate_network())
