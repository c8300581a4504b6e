# Pascal Context without the background: 59 classes, from the same files.
_base_ = ['pascal_context_480x480.py']
num_classes = 59
train_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
val_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
test_dataloader = dict(dataset=dict(type='PascalContextDataset59'))
