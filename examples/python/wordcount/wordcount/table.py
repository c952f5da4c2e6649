"""Shows counts as a table."""


def render(counts: list[tuple[str, int]]) -> str:
    width = max((len(word) for word, _ in counts), default=0)
    return "\n".join(f"{word:<{width}}  {'#' * count} {count}" for word, count in counts)
