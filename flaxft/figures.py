"""The pictures of a report and of a comparison: matplotlib figures, drawn once for a light page and once for a dark one."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxft import files

DPI = 160
SIZE = (5.2, 3.3)  # inches; a page shows 100 pixels an inch
# Colours of series are told apart by people who do not see red or green (after Okabe and Ito 2008); each also has a marker or a dash of its own.
APPEARANCES: dict[str, dict[str, Any]] = {
    "light": {"paper": "#ffffff", "ink": "#25303b", "faint": "#dfe4e9", "series": "#1f6fb4 #c45a11 #1d8a63 #8a4fa3 #937400 #3d8fa8 #b03a5b #5b6670".split()},
    "dark": {"paper": "#1a1e23", "ink": "#d8dee4", "faint": "#39414a", "series": "#6cb2ee #f0944d #52c79a #c596dc #d9bd4a #7fcbe0 #ee86a3 #a7b1bb".split()},
}
MARKERS = "osD^vPX*"
Points = Sequence[tuple[float, float | None]]


class Figure(NamedTuple):
    """What is drawn: `draw(axes, appearance)` with the colours of one of `APPEARANCES`."""

    name: str  # of its files
    title: str
    alt: str  # what it shows, in words
    draw: Callable[[Any, Mapping[str, Any]], None]
    size: tuple[float, float] = SIZE
    note: str = ""


def save(figure: Figure, file: Path, *, appearance: str = "light") -> None:
    """Writes it as a PNG."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from PIL import Image

    colours = APPEARANCES[appearance]
    ink, faint = colours["ink"], colours["faint"]
    style: Any = {
        "font.size": 9, "axes.edgecolor": faint, "axes.labelcolor": ink, "text.color": ink, "xtick.color": ink, "ytick.color": ink, "xtick.labelcolor": ink,
        "axes.facecolor": colours["paper"], "axes.grid": True, "grid.color": faint, "grid.linewidth": 0.6, "axes.axisbelow": True, "axes.spines.top": False,
        "axes.spines.right": False, "legend.frameon": False, "xtick.major.size": 0, "ytick.major.size": 0,
        "axes.unicode_minus": False, "text.parse_math": False,  # a label may hold a dollar
    }  # fmt: skip
    png = io.BytesIO()
    with mpl.rc_context(style):
        canvas = Canvas(figsize=figure.size, dpi=DPI, facecolor=colours["paper"], layout="constrained")
        painter = FigureCanvasAgg(canvas)
        axes = canvas.subplots()
        figure.draw(axes, colours)
        painter.draw()
        # 128 colours are more than a chart has: a third of the size
        Image.fromarray(np.asarray(painter.buffer_rgba())[..., :3]).quantize(128, dither=Image.Dither.NONE).save(png, "PNG", optimize=True)
    files.write_bytes(file, png.getvalue())


def curves(name: str, title: str, series: Mapping[str, Points], *, smoothed: str | None = None, note: str = "") -> Figure:
    """Values by step, a line for each of `series`; the one called `smoothed` is drawn faintly with its moving mean. None is a gap."""

    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        for i, (label, points) in enumerate(series.items()):
            x = np.asarray([step for step, _ in points], float)
            y = np.asarray([np.nan if value is None else value for _, value in points], float)
            colour, many = colours["series"][i % len(colours["series"])], len(points) > 20
            window = max(1, len(points) // 50)
            if label == smoothed and window > 1:
                axes.plot(x, y, color=colour, linewidth=0.6, alpha=0.35)
                y = _moving_mean(y, window)
            marker = None if many or label == smoothed else MARKERS[i % len(MARKERS)]
            axes.plot(x, y, color=colour, linewidth=1.6, marker=marker, markersize=3.5, label=drawable(label))
        axes.set_xlabel("step")
        axes.margins(x=0.02)
        if any(series):
            axes.legend(fontsize=8, ncols=2 if len(series) > 4 else 1)

    last = "; ".join(f"{label or 'value'} ends at {points[-1][1]:.4g}" for label, points in series.items() if points and points[-1][1] is not None)
    return Figure(name, title, f"{title} by step. {last}", draw, note=note)


def histogram(name: str, title: str, counts: Mapping[str, np.ndarray], *, marks: Mapping[str, int]) -> Figure:
    """Shares of lengths, counts[split][n] being how many have n tokens, with vertical lines at `marks`."""
    longest = max(len(one) for one in counts.values())
    width = max(1, -(-longest // 40))

    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        for i, (label, one) in enumerate(counts.items()):
            binned = np.add.reduceat(np.pad(one, (0, -len(one) % width)), range(0, max(len(one), 1), width)) / max(1, one.sum())
            looks = {"fill": True, "alpha": 0.55} if i == 0 else {"linewidth": 1.5}
            axes.stairs(binned, np.arange(len(binned) + 1) * width, color=colours["series"][i % len(colours["series"])], label=drawable(label), **looks)
        for dash, (label, place) in zip(("--", ":"), marks.items(), strict=False):
            axes.axvline(place, color=colours["ink"], linestyle=dash, linewidth=1.2, label=f"{label} ({place})")
        axes.set_xlabel(f"tokens, {width} a bin" if width > 1 else "tokens")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
        axes.legend(fontsize=8)

    return Figure(name, title, f"{title}: shares of {', '.join(counts)} by number of tokens", draw)


def bars(name: str, title: str, shares: Mapping[str, float], *, note: str = "") -> Figure:
    """Shares as bars with their figures."""

    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        places = np.arange(len(shares))[::-1]
        axes.barh(places, list(shares.values()), height=0.5, color=[colours["series"][0], *[colours["series"][-1]] * (len(shares) - 1)])
        for place, (label, share) in zip(places, shares.items(), strict=True):
            axes.text(0, place + 0.34, label, va="bottom", fontsize=9)
            axes.text(share + 0.01, place, f"{share:.1%}", va="center", fontsize=9)
        axes.set_xlim(0, max(0.1, *shares.values()) * 1.2)
        axes.set_ylim(-0.5, len(shares) - 0.2)
        axes.set_yticks([])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")

    return Figure(name, title, f"{title}: " + ", ".join(f"{label} {share:.1%}" for label, share in shares.items()), draw, note=note)


def confusion_figure(name: str, title: str, labels: Sequence[str], counts: np.ndarray) -> Figure:
    """Rows are gold and sum to 1 in colour; up to 20 labels have their counts written in, up to 60 their names."""
    num = len(labels)
    side = min(9.0, max(4.2, 2.2 + 0.42 * min(num, 20)))

    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("one", [colours["paper"], colours["series"][0]]), vmin=0, vmax=1, aspect="equal")
        axes.grid(visible=False)
        names = [drawable(label, number=i) for i, label in enumerate(labels)] if num <= 60 else []
        axes.set_xticks(range(len(names)), names, rotation=90 if num > 4 or max(map(len, names), default=0) > 6 else 0, fontsize=8 if num <= 20 else 5)
        axes.set_yticks(range(len(names)), names, fontsize=8 if num <= 20 else 5)
        axes.set_xlabel("given", fontsize=2 * side)
        axes.set_ylabel("gold", fontsize=2 * side)
        for i, j in np.ndindex(*counts.shape) if num <= 20 else ():
            if counts[i, j]:
                ink = colours["paper"] if shares[i, j] > 0.5 else colours["ink"]
                axes.text(j, i, f"{counts[i, j]}", ha="center", va="center", fontsize=8 if num <= 12 else 6, color=ink)

    right = int(np.trace(counts))
    return Figure(name, title, f"{title} of {num} labels: {right} of {int(counts.sum())} on the diagonal", draw, size=(side, side))


def reliability(name: str, title: str, lines: Mapping[str, Sequence[tuple[float, float, float]]]) -> Figure:
    """The share of right ones by mean confidence, a line for each kind of confidence; the larger a marker, the more examples are in its bin."""

    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        axes.plot([0, 1], [0, 1], color=colours["ink"], linewidth=0.9, linestyle=":", label="honest")
        for i, (label, bins) in enumerate(lines.items()):
            num, mean, right = np.asarray(bins, float).reshape(-1, 3).T
            colour = colours["series"][i % len(colours["series"])]
            axes.plot(mean, right, color=colour, linewidth=1.3, linestyle=("-", "--")[i % 2], label=drawable(label))
            axes.scatter(mean, right, s=8 + 110 * num / max(num.max(initial=1), 1), color=colour, marker=MARKERS[i], alpha=0.8, linewidths=0)
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share that is right")
        axes.legend(fontsize=8, loc="upper left")

    return Figure(name, title, f"{title}: share of right ones by confidence, in bins; {', '.join(lines)}", draw, size=(4.4, 3.9))


def scatter(name: str, title: str, gold: Sequence[float], predicted: Sequence[float]) -> Figure:
    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        axes.scatter(gold, predicted, s=9, color=colours["series"][0], alpha=0.45, linewidths=0)
        ends = [min(*gold, *predicted), max(*gold, *predicted)]
        axes.plot(ends, ends, color=colours["ink"], linewidth=0.9, linestyle=":")
        axes.set_xlabel("gold")
        axes.set_ylabel("predicted")

    return Figure(name, title, f"{title} of {len(gold)} records", draw, size=(4.4, 3.9))


def whiskers(name: str, title: str, groups: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Each group's values by series as faint points, with their mean and sample standard deviation where there are several."""
    series = list(dict.fromkeys(one for found in groups.values() for one in found))

    def draw(axes: Any, colours: Mapping[str, Any]) -> None:
        for i, one in enumerate(series):
            colour, shift = colours["series"][i % len(colours["series"])], (i - (len(series) - 1) / 2) * 0.22
            for place, found in enumerate(groups.values()):
                values = np.asarray(found.get(one, ()), float)
                if len(values):
                    spread = values.std(ddof=1) if len(values) > 1 else 0.0
                    axes.scatter(values, np.full(len(values), place + shift), s=14, color=colour, alpha=0.4, linewidths=0)
                    looks = {"color": colour, "markersize": 5, "capsize": 3, "elinewidth": 1.4}
                    axes.errorbar(values.mean(), place + shift, xerr=spread, fmt=MARKERS[i % len(MARKERS)], **looks)
            axes.plot([], [], color=colour, marker=MARKERS[i % len(MARKERS)], linestyle="", label=drawable(one))
        axes.set_yticks(range(len(groups)), [drawable(label, number=i) for i, label in enumerate(groups)])
        axes.set_ylim(len(groups) - 0.5, -0.5)  # the first row is the topmost, as in the table
        axes.set_title(drawable(title), fontsize=10, loc="left")
        if series:
            axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, -0.32 if len(groups) < 4 else -0.2), ncols=len(series))

    return Figure(name, title, title, draw, size=(6.4, 1.6 + 0.55 * len(groups)))


def drawable(label: str, *, number: int | None = None) -> str:
    """The label as far as the font of the pictures has its characters; one that has none of them by its number. Cut where it is long."""
    import matplotlib.font_manager as fonts

    known = fonts.get_font(fonts.findfont("DejaVu Sans")).get_charmap()
    if any(ord(c) not in known for c in label):
        return f"label {number}" if number is not None else "".join(c if ord(c) in known else "?" for c in label)
    return label if len(label) <= 24 else f"{label[:23]}…"


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Of the last `window` values, as many as there are; gaps do not count."""
    there = np.isfinite(values)
    sums, nums = (np.cumsum(np.r_[0.0, one]) for one in (np.where(there, values, 0.0), there))
    first = np.maximum(np.arange(len(values)) - window + 1, 0)
    num = nums[1:] - nums[first]
    return np.where(num > 0, (sums[1:] - sums[first]) / np.maximum(num, 1), np.nan)
