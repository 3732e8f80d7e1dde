"""What the tests of a search and of a training share: other settings, and a plug-in that draws at random."""

# Each of them changes what either of the two computes.
OTHER_SETTINGS = {
    "train_images": 20,
    "flip": True,
    "crop_padding": 0,
    "seed": 1,
    "channels": 3,
    "layers": 4,
    "epochs": 3,
    "batch_size": 6,
    "learning_rate": 0.01,
    "learning_rate_min": 0.02,
    "momentum": 0.5,
    "weight_decay": 0.1,
    "gradient_clip": 0.01,
    "precision": "bfloat16",
}
DROPPED_CONV = """
from torch import nn
from search_spaces import register_operator

@register_operator("dropped_conv")
def dropped_conv(channels, stride, affine):
    return nn.Sequential(nn.Conv2d(channels, channels, 1, stride, bias=False), nn.Dropout(0.5))
"""
