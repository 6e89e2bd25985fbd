"""MXNet's parameter files, written here by the format's description, whole and broken in every way."""

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from camshaft.engine.errors import WeightsError
from camshaft.engine.models.mxnet_names import resnet38_names
from camshaft.engine.models.mxnet_params import read_params
from camshaft.engine.models.resnet38 import ResNet38, ResNet38Settings

FLAGS = {
    torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.uint8: 3, torch.int32: 4, torch.int8: 5, torch.int64: 6,
    torch.bool: 7, torch.int16: 8, torch.uint16: 9, torch.uint32: 10, torch.uint64: 11, torch.bfloat16: 12,
}  # fmt: skip
VERSIONS = ("legacy", "v1", "v2", "v3")
CPU = struct.pack("<ii", 1, 0)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def shape_of(sides: Sequence[int], version: str) -> bytes:
    if version == "legacy":
        return u32(len(sides)) + b"".join(u32(side) for side in sides)
    start = {"v1": u32(0xF993FAC8), "v2": u32(0xF993FAC9) + u32(0), "v3": u32(0xF993FACA) + u32(0)}[version]
    return start + u32(len(sides)) + b"".join(struct.pack("<q", side) for side in sides)


def array(tensor: Tensor, version: str = "v2", device: bytes = CPU) -> bytes:
    values = bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()) if tensor.numel() else b""
    return shape_of(tensor.shape, version) + device + struct.pack("<i", FLAGS[tensor.dtype]) + values


def names(*texts: str) -> bytes:
    return u64(len(texts)) + b"".join(u64(len(text.encode())) + text.encode() for text in texts)


def listed(*arrays: bytes) -> bytes:
    return u64(0x112) + u64(0) + u64(len(arrays)) + b"".join(arrays)


def file(tensors: dict[str, Tensor], version: str = "v2") -> bytes:
    return listed(*(array(tensor, version) for tensor in tensors.values())) + names(*tensors)


def read(folder: Path, content: bytes) -> dict[str, Tensor]:
    path = folder / "w.params"
    path.write_bytes(content)
    return read_params(path)


def message(folder: Path, content: bytes) -> str:
    with pytest.raises(WeightsError) as error:
        read(folder, content)
    path, _, text = str(error.value).partition(": ")
    assert path == str(folder / "w.params")
    return text


def examples() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"arg:conv1a_weight": torch.randn(2, 3, 1, 2), "aux:bn7_moving_mean": torch.arange(5.0)}


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_every_version_are_read(tmp_path: Path, version: str) -> None:
    found = read(tmp_path, file(examples(), version))
    assert list(found) == list(examples())
    for name, tensor in examples().items():
        assert torch.equal(found[name], tensor)


def test_one_file_byte_by_byte(tmp_path: Path) -> None:
    content = bytes.fromhex(
        "1201000000000000 0000000000000000 0100000000000000"  # magic, reserved, one array
        "c9fa93f9 00000000 02000000 0100000000000000 0200000000000000"  # V2, dense, two axes, 1×2
        "01000000 00000000 00000000 0000803f 000020c1"  # on the CPU, number 0, float32, 1 and −10
        "0100000000000000 0500000000000000 6172673a77"  # one name of five bytes, arg:w
    )
    found = read(tmp_path, content)
    assert found.keys() == {"arg:w"}
    assert found["arg:w"].tolist() == [[1.0, -10.0]]


@pytest.mark.parametrize("dtype", FLAGS, ids=str)
def test_values_of_every_type_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    tensor = torch.tensor([[0, 1, 100], [1, 0, 7]]).to(dtype)
    found = read(tmp_path, file({"arg:w": tensor}))["arg:w"]
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_where_an_array_was_saved_from_does_not_matter(tmp_path: Path) -> None:
    content = listed(array(torch.ones(2), device=struct.pack("<ii", 2, 3))) + names("arg:w")
    assert read(tmp_path, content)["arg:w"].tolist() == [1, 1]


def test_a_scalar_and_an_empty_array_in_numpy_s_shapes(tmp_path: Path) -> None:
    found = read(tmp_path, file({"a": torch.tensor(3.5), "b": torch.empty(0, 4)}, "v3"))
    assert found["a"].item() == 3.5
    assert found["b"].shape == (0, 4)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_cut_anywhere_is_not_whole(tmp_path: Path, version: str) -> None:
    content = file(examples(), version)
    for kept in range(len(content)):
        assert "not a whole MXNet parameters file" in message(tmp_path, content[:kept]), kept


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    content = file(examples())
    start = 24 + 8 + 4 + 4 * 8 + 12
    assert message(tmp_path, content[: start + 5]) == (
        "not a whole MXNet parameters file: array 1 of 2, 2×3×1×2 of float32 would take 48 bytes, but 5 are left"
    )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sides", [(2**31 - 1,) * 2, (2**31 - 1,) * 8, (10**9,)])
def test_absurd_shapes_are_refused_before_memory_is_taken(tmp_path: Path, version: str, sides: tuple[int, ...]) -> None:
    content = listed(shape_of(sides, version) + CPU + u32(1) + bytes(64)) + names("w")
    assert "would take" in message(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (u64(0x112) + u64(0) + u64(2**60), "1,152,921,504,606,846,976 arrays would take"),
        (listed() + u64(2**61), "names would take"),
        (listed(array(torch.ones(1))) + u64(1) + u64(2**62) + b"w", "name 1 of 1 would take"),
        (b"PK\x03\x04" + bytes(40), "not an MXNet parameters file: it starts with 0x4034b50, not 0x112"),
        (listed(u32(0xF993FACB) + bytes(60)), "neither a known version nor a shape: 0xf993facb"),
        (listed(u32(33) + bytes(200)), "neither a known version nor a shape"),
        (listed(u32(0xF993FAC9) + u32(0) + u32(33) + bytes(300)), "array 1 of 1 has 33 axes"),
        (listed(u32(0xF993FAC8) + struct.pack("<i", -1) + bytes(60)), "array 1 of 1 has -1 axes"),
        (listed(u32(0xF993FAC9) + u32(1) + bytes(60)), "array 1 of 1 is row-sparse; only dense arrays can be read"),
        (listed(u32(0xF993FAC9) + u32(2) + bytes(60)), "array 1 of 1 is compressed sparse row"),
        (listed(u32(0xF993FAC9) + struct.pack("<i", -1) + bytes(60)), "is of storage type -1"),
        (listed(shape_of((-2, -3), "v2") + CPU + u32(0) + bytes(24)), "the impossible shape -2×-3"),
        (listed(shape_of((1,), "v2") + CPU + u32(13) + bytes(4)), "values of the unknown type 13"),
        (listed(shape_of((1,), "v2") + CPU + struct.pack("<i", -1) + bytes(4)), "values of the unknown type -1"),
        (listed(array(torch.ones(1))) + names(), "1 arrays but 0 names"),
        (listed(array(torch.ones(1))) + names("a", "b"), "1 arrays but 2 names"),
        (listed(array(torch.ones(1)), array(torch.ones(1))) + names("a", "a"), "the name 'a' stands more than once"),
        (listed(array(torch.ones(1))) + u64(1) + u64(1) + b"\xff", "name 1 of 1 is not UTF-8 text"),
        (listed(array(torch.ones(1))) + names("a") + b"x", "1 bytes follow the last name"),
        (listed(shape_of((), "v2")) + names("a"), "a has no values"),
        (listed(shape_of((), "legacy")) + names("a"), "a has no values"),
        (listed(shape_of((2, -1), "v3")) + names("a"), "a has no values"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in message(tmp_path, content)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.params: no such weights file"):
        read_params(tmp_path / "none.params")
    with pytest.raises(WeightsError, match="can't be read: Is a directory"):
        read_params(tmp_path)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.sampled_from(VERSIONS)), max_size=4),
    st.integers(0, 400),
    st.integers(0, 255),
)
def test_a_damaged_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[list[int], str]], place: int, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    arrays = [array(torch.rand(sides), version) for sides, version in shapes]
    texts = [f"arg:w{number}" for number in range(len(arrays))]
    content = bytearray(listed(*arrays) + names(*texts))
    whole = read(folder, bytes(content))
    assert [list(tensor.shape) for tensor in whole.values()] == [sides for sides, _ in shapes]
    content[place % len(content)] = value
    try:
        read(folder, bytes(content))
    except WeightsError:
        return


def published_name(block: str, kind: str, branch: str, role: str) -> str:
    """How the original calls a tensor of the block that is called `block` here."""
    level, _, number = block.removeprefix("b").partition("_")
    where = f"{level}b{number}" if number else f"{level}a"
    prefix = "aux" if role.startswith("moving") else "arg"
    return f"{prefix}:{'res' if kind == 'conv' else 'bn'}{where}_{branch}_{role}"


def test_names_of_the_published_weights_become_resnet38_s() -> None:
    roles = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}
    with torch.device("meta"):
        wanted = {
            name: tensor
            for name, tensor in ResNet38(ResNet38Settings()).state_dict().items()
            if not name.endswith("tracked")
        }
    published = {"arg:conv1a_weight": "conv1a.weight"}
    for name in wanted:
        layer, _, role = name.rpartition(".")
        if layer == "bn7":
            published[f"{'aux' if 'running' in role else 'arg'}:bn7_{roles[role]}"] = name
        elif layer != "conv1a":
            block, _, inner = layer.partition(".")
            kind, _, branch = inner.partition("_")
            theirs = "weight" if kind == "conv" else roles[role]
            published[published_name(block, kind, branch, theirs)] = name
    assert len(published) == len(wanted)
    assert {"arg:res4b5_branch2a_weight", "arg:res5a_branch1_weight", "aux:bn6a_branch2b2_moving_var"} <= set(published)
    renamed = resnet38_names({name: wanted[ours] for name, ours in published.items()})
    assert renamed.keys() == wanted.keys()
    assert all(renamed[name] is wanted[name] for name in wanted)


@pytest.mark.parametrize(
    "name", ["linear1000_weight", "res2a_branch2a_gamma", "bn2a_branch2a_weight", "res8a_branch1_weight", "fc"]
)
def test_names_that_mean_nothing_stay(name: str) -> None:
    assert list(resnet38_names({name: torch.zeros(1)})) == [name]


def test_a_name_that_stands_twice_is_not_lost() -> None:
    found = {"arg:bn7_gamma": torch.zeros(1), "aux:bn7_gamma": torch.ones(1)}
    assert list(resnet38_names(found)) == ["bn7.weight", "aux:bn7_gamma"]
