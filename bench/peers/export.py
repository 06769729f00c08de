"""The same export in Python: READINGS by nats-py, files by pyarrow.

    python export.py --url URL --subject readings.SITE.0 --last N --site SITE --to FOLDER

Messages are gathered up to the same number of rows, split into device and channel, sorted by device, channel and time, and written
as one zstd file for each range and date, with the same row groups and encodings. What it leaves out, in its favour: exactly the same
bytes again, records, gaps, controls, bursts, checks of what was written. It prints one line of JSON.
"""

import argparse
import asyncio
import json
import os
import resource
import time
import urllib.parse

import nats
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

ROWS = 500_000
ROW_GROUP = 32_768


def table_of(message, sequence):
    """Columns of one message, the series' dictionary split once a name."""
    batch = pa.ipc.open_stream(message.data).read_all().combine_chunks().to_batches()[0]
    series = batch.column("series")
    names = [name.split("/", 1) for name in series.dictionary.to_pylist()]
    devices = pa.array([urllib.parse.unquote(name[0]) for name in names])
    channels = pa.array([urllib.parse.unquote(name[1]) for name in names])
    rows = batch.num_rows
    stamp = pa.timestamp("ns", "UTC")
    return pa.table({
        "device": devices.take(series.indices),
        "channel": channels.take(series.indices),
        "time": batch.column("time").cast(stamp),
        "sequence": pa.repeat(pa.scalar(sequence, pa.uint64()), rows),
        "row": pa.array(range(rows), pa.uint32()),
        "value": batch.column("value"),
        "quality": batch.column("quality"),
        "arrival": batch.column("arrival").cast(stamp),
    })


def write(tables, first, last, args):
    """Returns how many bytes the files of a range have."""
    table = pa.concat_tables(tables)
    order = [(name, "ascending") for name in ("device", "channel", "time", "sequence", "row")]
    table = table.sort_by(order)
    dates = pc.strftime(table["time"], "%Y-%m-%d")
    written = 0
    for date in pc.unique(dates).to_pylist():
        folder = f"{args.to}/class=readings/site={args.site}/date={date}"
        os.makedirs(folder, exist_ok=True)
        path = f"{folder}/{first:012}-{last:012}.parquet"
        delta = {name: "DELTA_BINARY_PACKED" for name in ("time", "sequence", "row", "arrival")}
        pq.write_table(
            table.filter(pc.equal(dates, date)), path, row_group_size=ROW_GROUP, compression="zstd", compression_level=3,
            use_dictionary=["device", "channel", "value", "quality"], column_encoding=delta, write_page_index=True,
        )
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        written += os.path.getsize(path)
    return written


async def main():
    parser = argparse.ArgumentParser()
    for name in ("url", "subject", "site", "to"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--last", type=int, required=True)
    args = parser.parse_args()
    connection = await nats.connect(args.url)
    started = time.perf_counter()
    jetstream = connection.jetstream()
    subscription = await jetstream.pull_subscribe(args.subject, stream="READINGS", config=nats.js.api.ConsumerConfig(
        ack_policy=nats.js.api.AckPolicy.NONE))
    tables, held, total, written, first, sequence = [], 0, 0, 0, 1, 0
    while sequence < args.last:
        for message in await subscription.fetch(64, timeout=10):
            sequence = message.metadata.sequence.stream
            if sequence > args.last:
                break
            tables.append(table_of(message, sequence))
            held += tables[-1].num_rows
            if held >= ROWS or sequence == args.last:
                written += write(tables, first, sequence, args)
                total, tables, held, first = total + held, [], 0, sequence + 1
    seconds = time.perf_counter() - started
    await connection.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"rows": total, "bytes": written, "seconds": seconds, "peak_rss_bytes": peak}))


asyncio.run(main())
