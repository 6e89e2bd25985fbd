"""The dense CRF's mean field on torch tensors, on any device, for a batch of images of one size.

Splat and slice are sparse matrices in rows (CSR), so that every sum has a fixed order; the vertices of all images are
numbered by one sort of their keys. Same conventions as operation.crf.

    B images, U unaries of each, L labels, P pixels an image, N points, M vertices
"""

import warnings

import torch
from torch import Tensor

from camshaft.kernels.crf import lattice
from camshaft.kernels.crf.parameters import Parameters


def crf(images: Tensor, probabilities: Tensor, parameters: Parameters) -> Tensor:
    """Refine per-pixel probabilities of a batch with a fully connected CRF each, as operation.crf does for one image.

    Args:
        images: uint8 (B, H, W, 3).
        probabilities: float32 (B, L, H, W), or (B, U, L, H, W) for several unaries of each image, which then share its
            lattice; on the same device, finite and >= 0; L at least 2.
        parameters: the CRF's settings.

    Returns:
        Q, float32, of the probabilities' shape.

    Raises:
        ValueError: a wrong shape or dtype, or standard deviations too small for a batch of this size.
    """
    _check(images, probabilities)
    batch, height, width = images.shape[:3]
    y, x = torch.meshgrid(*(torch.arange(n, device=images.device) for n in (height, width)), indexing="ij")
    place = torch.stack([x, y], -1).float().reshape(-1, 2)
    smoothness = Kernel((place / parameters.gaussian_sxy)[None], parameters.gaussian_compat)
    colour = images.reshape(batch, -1, 3).float() / parameters.bilateral_srgb
    places = (place / parameters.bilateral_sxy).expand(batch, -1, -1)
    appearance = Kernel(torch.cat([places, colour], -1), parameters.bilateral_compat)
    unaries = probabilities.reshape(batch, -1, probabilities.shape[-3], height * width)
    log_unary = unaries.clamp(parameters.clip, 1).log().permute(0, 3, 1, 2)
    q = log_unary.softmax(-1)
    for _ in range(parameters.iterations):
        side_by_side = q.transpose(0, 1).flatten(1)  # one lattice serves all: it depends on the size alone
        smooth = smoothness(side_by_side).reshape(-1, batch, *q.shape[2:]).transpose(0, 1)
        q = (log_unary + smooth + appearance(q.flatten(2).flatten(0, 1)).view_as(q)).softmax(-1)
    return q.permute(0, 2, 3, 1).reshape(probabilities.shape).contiguous()


class Kernel:
    """compat · D^-1/2 K D^-1/2 with K the lattice's filter; the norm and the weight are part of the matrices."""

    def __init__(self, features: Tensor, compat: float) -> None:
        """Build the lattices of features (B, P, d), float32, each divided by its standard deviation."""
        batch, pixels, d = features.shape
        # pydensecrf fills its last block of four points with points at the origin, whose vertices exist
        padding = features.new_zeros(batch, 1 if pixels % 4 else 0, d)
        strides = _strides(features)
        keys, weights = embed(torch.cat([features, padding], 1), strides)
        spread = int((keys.max() - keys.min()).item()) + 4 * (d + 1) * int(strides.sum())
        if spread * batch >= 1 << 62:
            raise ValueError("crf: the standard deviations are too small for a batch of this size")
        keys += torch.arange(batch, device=keys.device)[:, None, None] * spread
        vertices, index = torch.unique(keys, return_inverse=True)
        self._neighbours = [_beside(vertices, strides, axis) for axis in range(d + 1)]
        index, weights = index[:, :pixels].reshape(-1, d + 1), weights[:, :pixels].reshape(-1, d + 1)
        alpha = 1 / (1 + 2.0**-d)
        self._slice, self._splat = _matrices(index, weights, len(vertices))
        mass = alpha * self(torch.ones_like(weights[:, :1]))
        weights = weights * torch.sqrt(alpha * compat / (mass + 1e-20))
        self._slice, self._splat = _matrices(index, weights, len(vertices))

    def __call__(self, values: Tensor) -> Tensor:
        """Filter values (N, C): splat, blur along each of the d + 1 axes, slice (Adams et al., section 3)."""
        values = self._splat @ values
        for before, after in self._neighbours:
            values = values + 0.5 * (values[before] + values[after])
        filtered: Tensor = self._slice @ values
        return filtered


def embed(features: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Find the vertices' keys, int64 (B, N, d + 1), and the weights, float32 (B, N, d + 1); see reference.embed."""
    d = features.shape[-1]
    corners = d + 1
    scale = torch.tensor([2 / 3 / ((i + 1) * (i + 2)) for i in range(d)], dtype=torch.float64).sqrt() * corners
    scaled = features * scale.to(features)
    total, elevated = torch.zeros_like(scaled[..., 0]), []
    for j in range(d, 0, -1):
        elevated.append(total - j * scaled[..., j - 1])
        total = total + scaled[..., j - 1]
    high = torch.stack([total, *elevated[::-1]], -1)
    nearest = torch.round(high * (1 / corners))
    difference = high - nearest * corners
    rank = nearest.sum(-1, keepdim=True).long().expand(*high.shape).clone()
    for i in range(corners):
        for j in range(i + 1, corners):
            smaller = difference[..., i] < difference[..., j]
            rank[..., i] += smaller
            rank[..., j] += ~smaller
    shift = (rank < 0).long() - (rank > d).long()
    rank += corners * shift
    nearest += shift
    gaps = (high - nearest * corners) * (1 / corners)
    descending = torch.empty_like(gaps).scatter_(-1, rank, gaps)
    first = 1 + descending[..., -1:] - descending[..., :1]
    weights = torch.cat([first, (descending[..., :-1] - descending[..., 1:]).flip(-1)], -1)
    base = (nearest[..., :d].long() * corners * strides).sum(-1)
    steps = [torch.where(rank[..., :d] <= d - r, r, r - corners) for r in range(corners)]
    keys = torch.stack([base + (step * strides).sum(-1) for step in steps], -1)
    return keys, weights


def _strides(features: Tensor) -> Tensor:
    """Return the strides of the keys, int64 (d,)."""
    return torch.from_numpy(lattice.key_strides(features.amax((0, 1)).cpu().numpy())).to(features.device)


def _beside(vertices: Tensor, strides: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Return every vertex's two neighbours along an axis, int64 (M + 1,); M, the absent one, has itself.

    Args:
        vertices: int64 (M,), ascending keys.
        strides: of the keys.
        axis: 0..d.
    """
    step = strides.sum() - (len(strides) + 1) * strides[axis] if axis < len(strides) else strides.sum()
    count = len(vertices)
    found = []
    for sought in (vertices - step, vertices + step):
        position = torch.searchsorted(vertices, sought).clamp(max=count - 1)
        position = torch.where(vertices[position] == sought, position, count)
        found.append(torch.cat([position, position.new_tensor([count])]))
    return found[0], found[1]


def _matrices(index: Tensor, weights: Tensor, vertices: int) -> tuple[Tensor, Tensor]:
    """Return slice, CSR (N, M + 1), and splat, CSR (M + 1, N), of points with vertices `index`, both (N, d + 1)."""
    count, corners = index.shape
    order = torch.argsort(index.flatten(), stable=True)
    points = torch.arange(0, count * corners + 1, corners, device=index.device)
    ends = torch.bincount(index.flatten(), minlength=vertices + 1).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    slicing = points, index.flatten(), weights.flatten(), (count, vertices + 1)
    splatting = starts, order // corners, weights.flatten()[order], (vertices + 1, count)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        first, second = (torch.sparse_csr_tensor(*parts, check_invariants=False) for parts in (slicing, splatting))
    return first, second


def _check(images: Tensor, probabilities: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.numel():
        raise ValueError(f"crf: images must be uint8 (B, H, W, 3), not {images.dtype} {tuple(images.shape)}")
    shape = tuple(probabilities.shape)
    fits = len(shape) in (4, 5) and shape[0] == len(images) and shape[-2:] == images.shape[1:3] and shape[-3] >= 2
    if probabilities.dtype != torch.float32 or not fits or not probabilities.numel():
        raise ValueError(
            f"crf: probabilities of images {tuple(images.shape)} must be float32 (B, L, H, W) or (B, U, L, H, W) with "
            f"L at least 2, not {probabilities.dtype} {shape}"
        )
