"""Configurations and times in a few words, for tables and sentences."""

from __future__ import annotations


def in_words(config: dict[str, object]) -> str:
    """Describe a configuration in a few words: architecture, backbone, optimizer and rate, schedule."""

    def part(key: str) -> dict[str, object]:
        value = config.get(key)
        return value if isinstance(value, dict) else {}

    model = part("model")
    architecture = model.get("architecture")
    names = [architecture.get("name") if isinstance(architecture, dict) else None, model.get("backbone")]
    words = [" on ".join(str(name) for name in names if name is not None) or "?"]
    if part("optimizer"):
        rate = part("optimizer").get("lr", part("optimizer").get("l2"))  # a solved head has no rate
        shown = f"{rate:.2g}" if isinstance(rate, (int, float)) else rate
        words.append(f"{part('optimizer').get('name')} {'' if shown is None else shown}".rstrip())
    if part("schedule"):
        words.append(str(part("schedule").get("name")))
    if model.get("freeze", "none") != "none":
        words.append(f"frozen: {model['freeze']}")
    if model.get("features", "last") != "last":
        words.append(f"features of {model['features']}")
    adapter = model.get("adapter")
    if isinstance(adapter, dict):
        words.append(f"{adapter.get('name')} {adapter.get('rank', '')}".rstrip())
    return ", ".join(words)


def duration(seconds: float) -> str:
    """Format seconds as '2h05m', '3m20s' or '12s'."""
    whole = max(0, round(seconds))
    hours = whole // 3600
    minutes = whole % 3600 // 60
    rest = whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
