default_scope = 'dpt'
env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800),  # seconds for a collective operation
)
# All hooks that run, except RuntimeInfoHook (dpt/engine/logging.py); None disables one. The order in an
# iteration is: non_finite, sync_buffers, logger, param_scheduler, checkpoint, stop_signal.
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    utilization=dict(type='dpt.extras.profiling.UtilizationHook'),  # mfu in the log
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook', by_epoch=False, interval=16000, max_keep_ckpts=3, save_best='mIoU'
    ),
    sampler_seed=None,  # DistSamplerSeedHook of mmengine; the samplers of dpt seed themselves
    # Draw the same images at every validation, as files in the work directory and in TensorBoard.
    visualization=dict(type='SegVisualizationHook', draw=True, num_images=4),
    run_info=dict(type='RunInfoHook'),
    class_check=dict(type='ClassCheckHook'),
    stop_signal=dict(type='StopSignalHook'),
    sync_buffers=dict(type='SyncBuffersHook'),  # for several CPU processes; GPUs use SyncBN
    non_finite=dict(type='NonFiniteHook', policy='skip', max_consecutive=10, max_total=1000),
)
vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='SegLocalVisualizer', vis_backends=vis_backends)
log_processor = dict(type='LogProcessor', by_epoch=False)
log_level = 'INFO'
tta_model = dict(type='SegTTAModel')
load_from = None
resume = False
