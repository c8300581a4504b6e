"""The chain of comparisons with MMSegmentation.

Each link is a module with ``cases`` (what is computed, and its share of the work), ``produce`` (computes it;
run once by each side, in its own environment, through a :class:`~parity_chain.side.Side`) and ``compare``
(rows of the table from what the two sides computed). The sides share numpy, torch and mmengine, no code of
either framework.
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
"""Links by name, in the order of the way from the image to the score."""
