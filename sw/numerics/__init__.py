"""Numbers: fixed-point and bipolar formats, rounding, bit order, memory images."""

from karui.sw.numerics.capsule_tables import (
    INDEX_BITS,
    TABLE_FRACTION,
    leading_bits,
    negative_powers,
    reciprocals,
    squash_gains,
)
from karui.sw.numerics.memory_image import memory_image, read_memory_image
from karui.sw.numerics.number_format import BIPOLAR, NumberFormat, format_for_range, signed, unsigned
from karui.sw.numerics.packing import (
    bit_words,
    pack,
    pack_beats,
    pack_bits,
    to_integers,
    unpack,
    unpack_beats,
    unpack_bits,
    word_bytes,
)
from karui.sw.numerics.rounding import (
    Overflow,
    Rounding,
    doubling_high_multiply,
    rounding_divide,
    saturate,
    shift_right,
)

__all__ = [
    "BIPOLAR",
    "INDEX_BITS",
    "NumberFormat",
    "Overflow",
    "Rounding",
    "TABLE_FRACTION",
    "bit_words",
    "doubling_high_multiply",
    "format_for_range",
    "leading_bits",
    "memory_image",
    "negative_powers",
    "pack",
    "pack_beats",
    "pack_bits",
    "read_memory_image",
    "reciprocals",
    "rounding_divide",
    "saturate",
    "shift_right",
    "signed",
    "squash_gains",
    "to_integers",
    "unpack",
    "unpack_beats",
    "unpack_bits",
    "unsigned",
    "word_bytes",
]
