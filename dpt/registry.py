"""Registries of the scope ``dpt``, children of mmengine's registries.

Packages are imported at the first lookup, so importing ``dpt`` stays cheap. Configs look names up here if
they set ``default_scope = 'dpt'``.
"""

from mmengine.registry import DATA_SAMPLERS as _DATA_SAMPLERS
from mmengine.registry import DATASETS as _DATASETS
from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import LOG_PROCESSORS as _LOG_PROCESSORS
from mmengine.registry import LOOPS as _LOOPS
from mmengine.registry import METRICS as _METRICS
from mmengine.registry import MODEL_WRAPPERS as _MODEL_WRAPPERS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as _OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as _OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as _OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as _PARAM_SCHEDULERS
from mmengine.registry import TRANSFORMS as _TRANSFORMS
from mmengine.registry import VISBACKENDS as _VISBACKENDS
from mmengine.registry import VISUALIZERS as _VISUALIZERS
from mmengine.registry import WEIGHT_INITIALIZERS as _WEIGHT_INITIALIZERS
from mmengine.registry import Registry

MODELS = Registry('model', parent=_MODELS, scope='dpt', locations=['dpt.models'])
DATASETS = Registry('dataset', parent=_DATASETS, scope='dpt', locations=['dpt.datasets', 'dpt.engine'])
TRANSFORMS = Registry('transform', parent=_TRANSFORMS, scope='dpt', locations=['dpt.datasets'])
METRICS = Registry('metric', parent=_METRICS, scope='dpt', locations=['dpt.evaluation'])
VISUALIZERS = Registry('visualizer', parent=_VISUALIZERS, scope='dpt', locations=['dpt.visualization'])
VISBACKENDS = Registry('vis_backend', parent=_VISBACKENDS, scope='dpt', locations=['dpt.visualization'])
HOOKS = Registry('hook', parent=_HOOKS, scope='dpt', locations=['dpt.engine', 'dpt.visualization'])
OPTIM_WRAPPERS = Registry('optim_wrapper', parent=_OPTIM_WRAPPERS, scope='dpt', locations=['dpt.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='dpt',
    locations=['dpt.engine'],
)
LOG_PROCESSORS = Registry('log_processor', parent=_LOG_PROCESSORS, scope='dpt', locations=['dpt.engine'])
WEIGHT_INITIALIZERS = Registry(
    'weight initializer', parent=_WEIGHT_INITIALIZERS, scope='dpt', locations=['dpt.engine']
)

LOOPS = Registry('loop', parent=_LOOPS, scope='dpt', locations=['dpt.engine'])
DATA_SAMPLERS = Registry('data sampler', parent=_DATA_SAMPLERS, scope='dpt', locations=['dpt.engine'])

# Empty: mmengine warns if the scope lacks one of these registries.
OPTIMIZERS = Registry('optimizer', parent=_OPTIMIZERS, scope='dpt')
PARAM_SCHEDULERS = Registry('parameter scheduler', parent=_PARAM_SCHEDULERS, scope='dpt')
MODEL_WRAPPERS = Registry('model_wrapper', parent=_MODEL_WRAPPERS, scope='dpt')
