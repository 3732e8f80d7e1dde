"""What happens to a batch of images between memory and network.

The batch is cropped, mirrored and cut out at once, with computed indices, on the device where it lies (after
KellerJordan/cifar10-airbench).
"""

import torch
from torch.nn import functional as F

from nas.machine.device import memory_format

Floats = tuple[float, float, float]
EVALUATION_BATCH = 256  # images that a network is tested on at once; changes memory, not the result


def normalize(images: torch.Tensor, mean: Floats, std: Floats) -> torch.Tensor:
    """uint8 (N,3,H,W) -> float32 (N,3,H,W) in the device's `memory_format`; `mean` and `std` are for pixels in 0..1."""
    x = images.to(torch.float32, memory_format=memory_format(images.device))
    # Channel by channel with plain numbers: a tensor made of `mean` would be a copy to the device, which waits for it.
    for channel in range(3):
        x[:, channel].sub_(255 * mean[channel]).div_(255 * std[channel])
    return x


def augment(
    images: torch.Tensor,
    mean: Floats,
    std: Floats,
    *,
    flip: bool,
    padding: int,
    cutout: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Randomly cropped, mirrored (p = 1/2), normalised, cut out: uint8 (N,3,H,W) -> float32 (N,3,H,W).

    As in DARTS: the crop's padding is black before normalisation, so not zero after it; cutout comes after
    normalisation, a square of side `cutout` (0: none) set to zero, centred on any pixel and clipped at the border.
    Each image draws its own numbers from `generator`, which lives on the images' device.
    """
    x = normalize(_crop_and_flip(images, flip, padding, generator), mean, std)
    if cutout:
        x.masked_fill_(_square_masks(x, cutout, generator)[:, None], 0.0)
    return x


def scaled(pixels_at_32: int, image_size: int) -> int:
    """A length stated for 32x32 images (crop padding 4, cutout 16) at another size, rounded; 0 only if it was 0."""
    return max(1, (pixels_at_32 * image_size + 16) // 32) if pixels_at_32 > 0 else 0


def batches(count: int, batch_size: int) -> int:
    """Steps in an epoch. The last batch may be smaller; a single image left over is skipped, as BatchNorm needs two."""
    return max(1, count // batch_size + (count % batch_size > 1))


def _crop_and_flip(images: torch.Tensor, flip: bool, padding: int, generator: torch.Generator) -> torch.Tensor:
    """Each image moved by up to `padding` pixels either way, black coming in, then mirrored or not. Still uint8."""
    N, _, H, W = images.shape
    device = images.device
    rows = torch.arange(H, device=device).expand(N, H)
    columns = torch.arange(W, device=device).expand(N, W)
    if flip:
        mirrored = torch.rand((N, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    if padding:
        offsets = torch.randint(2 * padding + 1, (2, N, 1), generator=generator, device=device)
        rows, columns = rows + offsets[0], columns + offsets[1]
    # One index for each pixel rather than each value: on a CPU a quarter of the time of gather on (N,3,H,W).
    pixels = F.pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))  # (N, H+2p, W+2p, 3)
    first = torch.arange(N, device=device)[:, None] * (H + 2 * padding)
    index = (first + rows)[:, :, None] * (W + 2 * padding) + columns[:, None, :]  # (N, H, W)
    return pixels.reshape(-1, 3).index_select(0, index.flatten()).view(N, H, W, 3).permute(0, 3, 1, 2)


def _square_masks(x: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """(N,H,W), true in a square that starts side // 2 before a random pixel of each image (DARTS, cutout)."""
    N, _, H, W = x.shape

    def inside(length: int) -> torch.Tensor:  # (N, length)
        centre = torch.randint(length, (N, 1), generator=generator, device=x.device)
        distance = torch.arange(length, device=x.device) - (centre - side // 2)
        return (distance >= 0) & (distance < side)

    return inside(H)[:, :, None] & inside(W)[:, None, :]
