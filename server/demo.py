"""Fills the server's records with the demo's photos: `python -m server.demo --images http://image-host:8000 --records 200`."""

from __future__ import annotations

import argparse
import os
import sys

from embedded.demo import enqueue
from reference_detector.dataset import data_folder, split


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m server.demo", description="Enqueue photos of solar cells.")
    parser.add_argument("--images", required=True, help="address of the image host")
    parser.add_argument("--records", type=int, required=True, help="how many wait for a verdict afterwards")
    asked = parser.parse_args()
    added = enqueue(os.environ["SERVER_RECORDS"], split().rest, base_url=asked.images, waiting=asked.records, images=data_folder())
    sys.stdout.write(f"{added} records added; start a run of anomaly_detection\n")


if __name__ == "__main__":
    main()
