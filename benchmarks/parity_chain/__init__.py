"""Chain of comparisons with MMSegmentation.

Each link of the chain is a module with two functions. ``produce`` computes the cases; each side runs it in
its own environment with its :class:`~parity_chain.side.Side`. ``compare`` creates the rows of the table from
the results of both sides. The sides share numpy, torch and mmengine, but no code of either framework.
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
"""Links by name, in order of execution."""
