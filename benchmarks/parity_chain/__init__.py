"""The chain of comparisons with MMSegmentation.

Each link is a module with ``cases`` (names of what is computed, and their share of the work), ``produce``
(computes them; both sides run it, each in its environment with its :class:`~parity_chain.side.Side`) and
``compare`` (makes the rows of the table from what the two sides computed). The sides share numpy, torch and
mmengine, but no code of either framework.
"""

from . import evaluation, loss, model, optimiser, pipelines, predictions

LINKS = {
    'model': model,
    'loss': loss,
    'pipelines': pipelines,
    'optimiser': optimiser,
    'evaluation': evaluation,
    'predictions': predictions,
}
"""Links by name, in the order from the image to the score."""
