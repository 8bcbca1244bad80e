"""Arrow types and their values, regardless of how a file stores them: texts, lists, dictionaries, extension types."""

from __future__ import annotations

from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types


def leaves_of(kind: pa.DataType) -> int:
    """Return the number of leaf columns that store a column of this type."""
    kind = storage_type(kind)
    if types.is_map(kind):
        return leaves_of(kind.key_type) + leaves_of(kind.item_type)
    if is_list(kind):
        return leaves_of(kind.value_type)
    if types.is_struct(kind):
        return sum(leaves_of(kind.field(i).type) for i in range(kind.num_fields))
    return 1


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, without dictionaries and extension types."""
    if isinstance(kind, pa.BaseExtensionType):
        return storage_type(kind.storage_type)
    return storage_type(kind.value_type) if types.is_dictionary(kind) else kind


def storage_array(cells: pa.Array) -> pa.Array:
    """Return the values without a dictionary or an extension type around them, also inside a list."""
    if isinstance(cells.type, pa.BaseExtensionType):
        return storage_array(cells.storage)
    if types.is_dictionary(cells.type):
        return storage_array(cells.dictionary_decode())
    if is_list(cells.type) and (
        types.is_dictionary(cells.type.value_type) or isinstance(cells.type.value_type, pa.BaseExtensionType)
    ):
        lengths = pc.fill_null(pc.list_value_length(cells), 0).to_pylist()
        offsets = pa.array([0, *accumulate(lengths)], pa.int64())
        mask = cells.is_null() if cells.null_count else None
        return pa.LargeListArray.from_arrays(offsets, storage_array(pc.list_flatten(cells)), mask=mask)
    return cells


def content(kind: pa.DataType) -> str:
    """Return the kind of the values: `text`, `integer`, `floating`, `decimal`, `boolean`, `timestamp`, `texts` or `integers`
    for lists of them, or empty for anything else."""
    if is_list(kind):
        return "texts" if is_text(kind.value_type) else "integers" if types.is_integer(kind.value_type) else ""
    kinds = {
        "text": is_text,
        "integer": types.is_integer,
        "floating": types.is_floating,
        "decimal": types.is_decimal,
        "boolean": types.is_boolean,
        "timestamp": types.is_timestamp,
    }
    return next((name for name, is_kind in kinds.items() if is_kind(kind)), "")


def is_text(kind: pa.DataType) -> bool:
    """Return whether the values are texts, or bytes that may be texts: many programs write texts without marking them as
    such."""
    kind = storage_type(kind)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    return bool(is_bytes or types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_list(kind: pa.DataType) -> bool:
    return not types.is_map(kind) and bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def as_bytes(cells: pa.Array) -> pa.Array:
    """Return texts as bytes, so that nothing decodes them as UTF-8."""
    return cells.cast(pa.large_binary())
