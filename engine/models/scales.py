"""The sides of an image that a network sees at another scale."""


def scaled_size(size: tuple[int, int], scale: float, stride: int | None) -> tuple[int, int]:
    """(H, W) of an image at a scale; with a stride, the nearest sides that are whole strides plus one."""
    if stride is None:
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    height, width = (max(1, round((side * scale - 1) / stride)) * stride + 1 for side in size)
    return height, width
