"""Daft expressions evaluated on a column of texts in memory.

Daft 0.7 cannot map an expression over the messages of a row (`list_map` fails on sliced lists), so texts are flattened
first and the expression is evaluated on them: the same native code, one column at a time.
"""

from typing import TYPE_CHECKING

import pyarrow as pa

from baihua.core.env import forbid_telemetry

if TYPE_CHECKING:
    from daft import Expression


def text_column() -> "Expression":
    """The column of texts that `evaluate` fills."""
    forbid_telemetry()
    import daft

    return daft.col("text")


def evaluate(expression: "Expression", texts: pa.StringArray) -> pa.Array:
    """The value of an expression over `text_column()` for each text."""
    from daft import Series
    from daft.expressions import ExpressionsProjection
    from daft.recordbatch import RecordBatch

    batch = RecordBatch.from_pydict({"text": Series.from_arrow(texts)})
    table = batch.eval_expression_list(ExpressionsProjection([expression.alias("found")])).to_arrow_table()
    found = table["found"].combine_chunks()
    return found.cast(pa.string()) if pa.types.is_large_string(found.type) else found
