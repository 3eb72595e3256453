"""A measurement's result as a table for people."""

from __future__ import annotations

from typing import Any

TITLES = {"direct": "direct to the stub", "bare_sql": "the road's SQL alone", "mainstay": "through Mainstay"}
HOLDS = {"least_sql": "the least SQL", "bare_sql": "the statements alone", "mainstay": "through Mainstay"}


DECISIONS = {
    "empty": "EVALSHA, empty script",
    "script": "EVALSHA, our script",
    "decision": "one decision",
}


def ratelimit(result: dict[str, Any]) -> str:
    """The table of `bench ratelimit`."""
    lines = [_machine(result), "", f"{'':28}{'a second':>12}{'p50 µs':>10}{'p99 µs':>10}"]
    for name, title in DECISIONS.items():
        of = result[name]
        lines.append(f"{title:28}{of['rps']:>12,.0f}{of['p50_ms'] * 1000:>10,.0f}{of['p99_ms'] * 1000:>10,.0f}")
    ratios = {name: result[f"ratio_to_{name}"] for name in ("empty", "script")}
    lines += ["", *(f"{'decision : ' + DECISIONS[name]:40}{ratio:>8.2f}" for name, ratio in ratios.items())]
    return "\n".join([*lines, f"{'windows decided at once':40}{result['windows']:>8}"])


def prompts(result: dict[str, Any]) -> str:
    """The table of `bench prompts`."""
    titles = {
        "accuracy": "accuracy, 20 examples an intent",
        "out_of_scope_auroc": "out-of-scope AUROC",
        "uncalibrated_error": "calibration error, uncalibrated",
        "calibration_error": "calibration error, calibrated",
        "called_unknown": "known, called unknown",
        "out_of_scope_called_unknown": "out of scope, called unknown",
    }
    seeds, promised = result["seeds"], result["promised"]
    heads = "".join(f"{head:>10}" for head in ("promised", "mean", "lowest", "highest"))
    lines = [_machine(result), "", f"{'CLINC150':36}{heads}{'by seed':>12}"]
    for name, title in titles.items():
        cells = [_number(promised.get(name), 10, 2)]
        cells += [_number(result[part][name], 10, 4) for part in ("mean", "lowest", "highest")]
        lines.append(f"{title:36}" + "".join(cells) + "     " + " ".join(f"{one[name]:.4f}" for one in seeds))
    return "\n".join([*lines, "", *_enhance(result["enhance"]), "", *_search(result["search"])])


def conversations(result: dict[str, Any]) -> str:
    """The table of `bench conversations`."""
    coming, going = result["import"], result["export"]
    rows = (
        ("import, messages a second", result["promised"]["messages_per_second"], coming["messages_per_second"]),
        ("export, messages a second", None, going["messages_per_second"]),
        ("memory for an import, MB", None, coming["memory_mb"]),
    )
    counts = f"{result['messages']:,} messages in {result['conversations']:,} conversations, {result['megabytes']:g} MB"
    lines = [_machine(result), "", counts, f"{'':36}{'promised':>10}{'found':>10}"]
    return "\n".join(
        [
            *lines,
            *(f"{title:36}{'' if most is None else format(most, ','):>10}{found:>10,}" for title, most, found in rows),
        ]
    )


def _enhance(figures: dict[str, Any]) -> list[str]:
    titles = {"cached": "known prompts", "embedded": "new prompts, embedded"}
    lines = [f"{'enhance without a model call':36}{'promised':>10}{'p50 ms':>10}{'p95 ms':>10}"]
    for name, title in titles.items():
        promised = _number(figures["promised_p50_ms"], 10, 1)
        cells = [_number(figures[name][one], 10, 1) for one in ("p50_ms", "p95_ms")]
        lines.append(f"{title:36}{promised}{''.join(cells)}")
    return lines


def _search(result: dict[str, Any]) -> list[str]:
    lines = [f"{'search, nDCG@10':36}{'text':>10}{'semantic':>10}{'hybrid':>10}{'texts':>10}{'questions':>12}"]
    for name, found in result["quality"].items():
        cells = [_number(found[mode], 10, 4) for mode in ("text", "semantic", "hybrid")]
        lines.append(f"{name:36}" + "".join(cells) + f"{found['texts']:>10,}{found['questions']:>12,}")
    speed, promised = result["speed"], result["promised"]
    titles = {
        "recall": ("recall@10 of the index", promised["recall"], 4),
        "p50_ms": ("p50 of a search, ms", None, 2),
        "bare_p50_ms": ("p50 of its statements alone, ms", None, 2),
        "ratio": ("… times that", promised["ratio"], 2),
        "ranking_p50_ms": ("p50 of the ranking alone, ms", None, 2),
    }
    lines += ["", f"{'semantic, of ' + format(speed['documents'], ',') + ' prompts':36}{'promised':>10}{'found':>10}"]
    for name, (title, least, digits) in titles.items():
        lines.append(f"{title:36}{_number(least, 10, 2)}{_number(speed[name], 10, digits)}")
    return lines


def metered(result: dict[str, Any]) -> str:
    """The table of `bench metered`."""
    lines = [
        _machine(result),
        "",
        f"{'':24}{'requests/s':>16}{'p50 ms':>18}{'p99 ms':>18}{'added p50 ms':>18}",
        f"{'concurrency':24}" + f"{1:>8}{32:>8}" + f"{1:>10}{32:>8}" * 3,
    ]
    lines += [_line(TITLES[road], result[road], result["direct"]) for road in TITLES]
    lines += [_line("… all for one user", {"c1": None, **result["mainstay_one_customer"]}, result["direct"])]
    lines += ["", "streams of 50 chunks"]
    streams = result["streams"]
    lines += [_line(TITLES[road], streams[road], streams["direct"]) for road in ("direct", "mainstay")]
    return "\n".join([*lines, "", *_counts(result)])


def quotas(result: dict[str, Any]) -> str:
    """The table of `bench quotas`."""
    threads = list(result["one_user"])
    counts = [int(name.removeprefix("t")) for name in threads]
    titles = ("calls/s", "p50 ms", "p99 ms")
    lines = [
        _machine(result),
        "",
        f"{'':28}" + "".join(f"{title:>{10 * len(counts)}}" for title in titles),
        f"{'threads':28}" + "".join(f"{count:>10}" for count in counts) * 3,
    ]
    for name, title in (("one_user", "one user"), ("many_users", f"{result['users']:,} users")):
        figures = [result[name][one] for one in threads]
        lines += ["", title]
        lines += [_holds(HOLDS[way], [one[way] for one in figures]) for way in HOLDS]
        lines += [_ratios("… times the statements alone", [f"{one['ratio']:.2f}" for one in figures])]
        halves = [f"{one['ratio_low']:.2f}-{one['ratio_high']:.2f}" for one in figures]
        lines += [_ratios("… in half of the rounds", halves)]
    facts = {
        "of a limit of": f"{result['limit']:,}, which {max(counts)} threads exceed, {result['limit']:,} were admitted",
        "calls in all": f"{result['calls']:,}, {result['errors']} errors, {result['deadlocks']} deadlocks",
    }
    return "\n".join([*lines, "", *(f"{name:28}{fact}" for name, fact in facts.items())])


def _holds(title: str, figures: list[dict[str, Any]]) -> str:
    columns = (("rps", 0), ("p50_ms", 2), ("p99_ms", 2))
    cells = [_number(one[name], 10, digits) for name, digits in columns for one in figures]
    return f"{title:28}" + "".join(cells)


def _ratios(title: str, ratios: list[str]) -> str:
    return f"{title:28}{'':{10 * len(ratios)}}" + "".join(f"{ratio:>10}" for ratio in ratios)


def _machine(result: dict[str, Any]) -> str:
    machine = result["machine"]
    parts = [f"{machine['cores']} cores ({machine['processor']})", *([result["server"]] if "server" in result else [])]
    return ", ".join([*parts, *(f"{name} {version}" for name, version in result["versions"].items() if version)])


def _line(title: str, figures: dict[str, Any], direct: dict[str, Any]) -> str:
    def cells(name: str, digits: int) -> str:
        values = [figures[c][name] if figures[c] else None for c in ("c1", "c32")]
        widths = (8, 8) if name == "rps" else (10, 8)
        return "".join(_number(value, width, digits) for value, width in zip(values, widths, strict=True))

    added = [figures[c]["p50_ms"] - direct[c]["p50_ms"] if figures[c] else None for c in ("c1", "c32")]
    if figures is direct:
        added = [None, None]
    last = _number(added[0], 10, 2) + _number(added[1], 8, 2)
    return f"{title:24}" + cells("rps", 0) + cells("p50_ms", 2) + cells("p99_ms", 2) + last


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'':{width}}" if value is None else f"{value:{width},.{digits}f}"


def _counts(result: dict[str, Any]) -> list[str]:
    facts = {
        "SQL statements per call": f"{result['statements_per_call']:g}, "
        f"{result['authentication_statements_per_call']} of them for authentication",
        "round trips per call": f"{result['round_trips_per_call']:g}",
        "commits per call": f"{result['commits_per_call']:g}",
        "streams held open at once": f"{result['streams_held']}, {result['stream_errors']} errors",
        "memory per web process": ", ".join(f"{size:g} MB" for size in result["rss_mb_each"]),
        "calls in all": f"{result['calls']:,}, {result['unsettled']} unsettled",
    }
    return [f"{name:28}{fact}" for name, fact in facts.items()]
