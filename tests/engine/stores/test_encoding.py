import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numcodecs import blosc

from camshaft.engine.stores.encoding import Codec, checked_crc32c, crc32c

ENCODINGS = ["uint8", "uint10", "uint12", "float16"]
UNIT = st.floats(0, 1, width=32)


def there_and_back(codec: Codec, values: np.ndarray) -> np.ndarray:
    codes = np.empty(values.size, codec.dtype)
    codec.to_codes(values, codes, np.empty(values.size + 3, np.float32))
    back = np.full(values.size, np.nan, np.float32)
    codec.to_values(codes, back)
    return back


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(values=arrays(np.float32, st.integers(0, 50), elements=UNIT))
def test_values_come_back_within_the_bound(encoding, values):
    codec = Codec(encoding, 64)
    assert (np.abs(there_and_back(codec, values) - values) <= codec.error_bound).all()


@pytest.mark.parametrize(("encoding", "bound"), [("uint8", 1 / 510), ("uint10", 1 / 2046), ("uint12", 1 / 8190)])
def test_the_bound_is_half_a_step(encoding, bound):
    codec = Codec(encoding, 64)
    assert codec.error_bound == pytest.approx(bound, abs=1e-7)
    values = np.linspace(0, 1, 100_001, dtype=np.float32)
    assert np.abs(there_and_back(codec, values) - values).max() > 0.98 * bound


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_nought_and_one_are_exact_and_rounding_outside_is_cut(encoding):
    back = there_and_back(Codec(encoding, 64), np.array([0, 1, -5e-5, 1 + 5e-5], np.float32))
    assert back.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_codes_keep_the_order_of_values(encoding):
    values = np.sort(np.random.default_rng(0).random(5000, np.float32))
    assert (np.diff(there_and_back(Codec(encoding, 64), values)) >= 0).all()


def test_hand_worked_codes():
    codes = np.empty(4, np.uint16)
    Codec("uint10", 8).to_codes(np.array([0, 0.5, 0.25, 1], np.float32), codes, np.empty(4, np.float32))
    assert codes.tolist() == [0, 512, 256, 1023]  # 511.5 goes to the even neighbour, 255.75 up


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(data=st.data())
def test_a_chunk_comes_back(encoding, data):
    codec = Codec(encoding, 256)
    codes = data.draw(
        arrays(np.dtype(codec.dtype), 256, elements={"allow_nan": False} if encoding == "float16" else {})
    )
    out = np.zeros(256, codec.dtype)
    codec.unpack(codec.pack(codes), out)
    assert (out == codes).all()


def test_any_flipped_bit_of_a_chunk_is_noticed():
    codec = Codec("uint10", 64)
    packed = codec.pack(np.arange(64, dtype=np.uint16))
    for position in range(len(packed) * 8):
        altered = bytearray(packed)
        altered[position // 8] ^= 1 << position % 8
        with pytest.raises(ValueError, match="checksum"):
            codec.unpack(bytes(altered), np.empty(64, np.uint16))


def test_a_right_checksum_over_a_wrong_chunk_is_an_error():
    junk = b"\x02\x01\x21\x02" + b"\xff" * 40
    with pytest.raises(ValueError, match="Blosc"):
        Codec("uint10", 64).unpack(junk + crc32c(junk), np.empty(64, np.uint16))


def test_crc32c_is_castagnolis():
    assert crc32c(b"123456789") == (0xE3069283).to_bytes(4, "little")
    with pytest.raises(ValueError, match="checksum"):
        checked_crc32c(b"")


def test_bytes_do_not_depend_on_threads():
    codec = Codec("uint10", 8192)
    codes = np.random.default_rng(0).integers(0, 1024, 8192, np.uint16)
    packed = [codec.pack(codes)]
    before = blosc.set_nthreads(1)
    try:
        for count in (1, 2, 5):
            blosc.set_nthreads(count)
            packed.append(codec.pack(codes))
    finally:
        blosc.set_nthreads(before)
    thread = threading.Thread(target=lambda: packed.append(codec.pack(codes)))
    thread.start()
    thread.join()
    assert len(packed) == 5
    assert len(set(packed)) == 1


def test_an_unknown_encoding_is_an_error():
    with pytest.raises(ValueError, match="uint9"):
        Codec("uint9", 64)  # type: ignore[arg-type]
