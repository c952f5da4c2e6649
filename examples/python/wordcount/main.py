"""Counts the words of a text, prints the most frequent ones and leaves report.json."""

import json
import sys
from pathlib import Path

from wordcount.count import count_words
from wordcount.table import render

TEXT = Path(__file__).parent / "data" / "sea.txt"


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    counts = count_words(TEXT.read_text(encoding="utf-8"))
    print(render(counts.most_common(most)))

    report = {"words": counts.total(), "distinct": len(counts), "top": dict(counts.most_common(most))}
    Path("report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
