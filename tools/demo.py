"""Serve a trained model as a web page that shows overlay, legend and class areas of an image, or its depth.

Requires gradio: pip install 'dense-prediction-transformers[demo]'. By default the page is reachable only from
this machine (see --host). No data is sent to other servers.

Exit status: 0 if successful, 1 on an error, 2 for invalid arguments.
"""

import argparse
import html
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

import dpt
from dpt.apis import PRECISIONS, Depth, Predictor
from dpt.cli import one_line_errors
from dpt.results import Result, Segmentation

if TYPE_CHECKING:
    import gradio

EXAMPLE = """example:
  python tools/demo.py dpt_mine.safetensors        # then open http://127.0.0.1:7860
"""
FONTS = ('system-ui', 'sans-serif')  # gradio would load its default fonts from another host


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'model', help='checkpoint, work directory, URL, hf://OWNER/NAME or a name of the model zoo'
    )
    parser.add_argument('--config', help='config file, instead of the config in MODEL')
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: the GPU if there is one)')
    parser.add_argument('--precision', choices=PRECISIONS, help="precision (default: the config's)")
    parser.add_argument('--host', default='127.0.0.1', help='address to serve on (default 127.0.0.1)')
    parser.add_argument('--port', type=int, default=7860, help='port to serve on (default 7860)')
    return parser.parse_args()


def table_of(result: Result) -> str:
    """Return an HTML table: class colours, names and areas, largest first; or the range of depth."""
    if isinstance(result, Depth):
        return depth_table(result)
    return area_table(result)


def depth_table(result: Depth) -> str:
    """Return an HTML table of the nearest, the median and the farthest depth; empty if it is relative."""
    if result.relative:
        return ''
    values = dict(
        zip(('nearest', 'median', 'farthest'), np.percentile(result.depth, (0, 50, 100)), strict=True)
    )
    rows = ''.join(f'<tr><td>{name}</td><td>{value:.2f} m</td></tr>' for name, value in values.items())
    return f'<table style="width:100%">{rows}</table>'


def area_table(result: Segmentation) -> str:
    """Return an HTML table of class colours, names and areas, largest first."""
    rows = []
    for name, share in result.areas().items():
        colour = 'rgb({},{},{})'.format(*result.palette[result.classes.index(name)])
        swatch = f'<span style="display:inline-block;width:1.2em;height:1.2em;background:{colour}">'
        rows.append(f'<tr><td>{swatch}</span></td><td>{html.escape(name)}</td><td>{share:.1f} %</td></tr>')
    head = '<tr><th></th><th>class</th><th>area</th></tr>'
    return f'<table style="width:100%">{head}{"".join(rows)}</table>'


def build_page(predictor: Predictor, title: str) -> 'gradio.Blocks':
    """Build the page. Importing gradio here lets --help work without it."""
    import gradio

    of_depth = not predictor.classes

    def draw(result: Result | None, opacity: float) -> np.ndarray | None:
        return None if result is None else result.overlay(opacity, legend=of_depth)

    def segment(image: np.ndarray | None, opacity: float) -> tuple[Any, np.ndarray | None, str]:
        if image is None:
            return None, None, ''
        result = predictor(np.ascontiguousarray(image[..., ::-1]))  # gradio's arrays are RGB
        assert isinstance(result, Result)
        return result, draw(result, opacity), table_of(result)

    with gradio.Blocks(title=title, analytics_enabled=False) as page:
        gradio.Markdown(f'# {title}')
        last = gradio.State()
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(
                    label='image', type='numpy', image_mode='RGB', sources=['upload', 'clipboard']
                )
                opacity = gradio.Slider(
                    0, 1, 1 if of_depth else 0.6, step=0.05, label='opacity of the colours'
                )
            with gradio.Column():
                overlay = gradio.Image(
                    label='overlay', interactive=False, format='png', buttons=['download', 'fullscreen']
                )
                table = gradio.HTML(label='depth' if of_depth else 'areas')
        image.change(segment, [image, opacity], [last, overlay, table], api_name='segment')
        opacity.release(draw, [last, opacity], overlay)
    return page


def main() -> int:
    for name in ('ANALYTICS_ENABLED', 'RUN_HISTORY'):  # must be set before importing gradio
        os.environ[f'GRADIO_{name}'] = 'False'
    with one_line_errors():
        args = parse_args()
        try:
            import gradio
        except ImportError as error:
            install = "pip install 'dense-prediction-transformers[demo]'"
            raise ValueError(f'the demo needs {error.name}: {install}') from None
        predictor = dpt.load(args.model, args.config, device=args.device, precision=args.precision)
        page = build_page(predictor, f'dpt: {os.path.basename(args.model)}')
        theme = gradio.themes.Default(font=FONTS, font_mono=('monospace',))
        page.launch(server_name=args.host, server_port=args.port, share=False, theme=theme, footer_links=[])
    return 0


if __name__ == '__main__':
    sys.exit(main())
