"""Tables that come as a stream: read block after block, so that memory does not grow with them."""

from collections.abc import Callable, Iterable, Iterator

import polars as pl
from polars.io.plugins import register_io_source

from distributed_downloader.errors import InputError

BLOCK_BYTES = 32 << 20
MAX_ROW_BYTES = 64 << 20  # a row beyond is no row: a quote or a line end is missing


def from_pieces(
    pieces: Callable[[], Iterator[pl.DataFrame]], schema: pl.Schema | None = None
) -> pl.LazyFrame:
    """A lazy frame over pieces that are made anew each time it is read."""
    known = schema or next(pieces()).schema

    def source(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 (pieces have the size that they have)
    ) -> Iterator[pl.DataFrame]:
        for piece in pieces():
            frame = piece if with_columns is None else piece.select(with_columns)
            frame = frame if n_rows is None else frame.head(n_rows)
            n_rows = None if n_rows is None else n_rows - frame.height
            yield frame if predicate is None else frame.filter(predicate)
            if n_rows == 0:
                return

    return register_io_source(source, schema=known)


def frames_of(stream: Callable[[], Iterable[bytes]], name: str) -> Iterator[pl.DataFrame]:
    """Tab-separated text without quoting (GBIF's manner), under a header line; all text."""
    header: bytes | None = None
    for block in _whole_lines(stream(), name):
        if header is None:
            header, _, block = block.removeprefix(b"\xef\xbb\xbf").partition(b"\n")  # noqa: PLW2901
        yield pl.read_csv(
            header + b"\n" + block,
            separator="\t",
            quote_char=None,
            infer_schema=False,
            truncate_ragged_lines=True,
        )


def _whole_lines(stream: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The same bytes in blocks that end with a line, of about BLOCK_BYTES."""
    held: list[bytes] = []
    size, line = 0, 0
    for piece in stream:
        held.append(piece)
        size += len(piece)
        if size < BLOCK_BYTES:
            continue
        text = b"".join(held)
        whole, end, rest = text.rpartition(b"\n")
        held, size = [rest], len(rest)
        if size > MAX_ROW_BYTES:
            raise InputError(
                f"{name} has a row of over {MAX_ROW_BYTES >> 20} MB after line {line}: "
                "is a line end missing? Mend it and run the same command again."
            )
        if whole or end:
            line += whole.count(b"\n") + 1
            yield whole + end
    if last := b"".join(held):
        yield last
    elif not line:
        raise InputError(f"{name} is empty, without even a header line; replace it.")
