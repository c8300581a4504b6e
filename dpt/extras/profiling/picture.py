"""A picture of where the time goes."""

from pathlib import Path

SMALLEST_LABEL = 0.035
"""Share of a bar below which its label would not fit."""


def draw_shares(results: list[dict], title: str, path: str | Path) -> None:
    """Draw a bar of the shares of its parts for each result, and write it to an image file.

    Args:
        results: What :func:`dpt.extras.profiling.report.run` returned; those without parts are left out.
        title: Title of the picture.
        path: File to write, in any format that matplotlib knows by its suffix.
    """
    # Not pyplot: no window, no global state. Imported here, as it takes half a second.
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    results = [result for result in results if len(result['parts']) > 1]
    names = list(dict.fromkeys(part['name'] for result in results for part in result['parts']))
    figure = Figure(figsize=(11, 1.6 + 1.5 * len(results)), layout='constrained')
    figure.suptitle(title, fontsize=10)
    for i, result in enumerate(results):
        axes = figure.add_subplot(len(results), 1, i + 1)
        left = 0.0
        for part in result['parts']:
            share, colour = part['share'], colormaps['tab20'](names.index(part['name']) % 20)
            axes.barh(0, share, left=left, color=colour, label=_legend(part))
            if share >= SMALLEST_LABEL:
                axes.text(left + share / 2, 0, f'{share:.0%}', ha='center', va='center', fontsize=9)
            left += share
        axes.set(xlim=(0, 1), ylim=(-0.45, 0.45), yticks=[], xticks=[])
        axes.set_title(_headline(result), fontsize=9, loc='left')
        axes.legend(loc='upper left', bbox_to_anchor=(0, -0.02), ncols=5, fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def _legend(part: dict) -> str:
    digits = 0 if part['ms'] >= 100 else 1 if part['ms'] >= 10 else 2
    return f'{part["name"]} {part["ms"]:.{digits}f} ms'


def _headline(result: dict) -> str:
    line = f'{result["name"]}: {result["images_per_s"]:.4g} images/s'
    return f'{line}, MFU {result["mfu"]:.0%}' if 'mfu' in result else line
