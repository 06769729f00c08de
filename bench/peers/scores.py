"""Embed and detect in Python: see README.md. Prints one line of JSON: windows scored and the seconds that took."""

import argparse
import asyncio
import io
import json
import pathlib
import time
import tomllib

import nats
import numpy as np
import onnxruntime
import pyarrow as pa
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

CHUNK = 512  # Rows whose distances are computed at once: their memories fit the cache.
BUDGET_ROW_OVERHEAD = 6  # Bytes that eddy keeps of a row beside its int8 components.
FAR = 1e9  # Stands in every component of a row that is not there.
EPSILON = 0.05  # A vector nearer than this part of the usual distance to a kept one is not kept.


class Head:
    """One head's memory, of all series: a ring of rows within the bundle's budget."""

    def __init__(self, spec):
        self.output, self.weight = spec["output"], spec["weight"]
        self.dimensions = spec["dimensions"]
        self.rows = max(4, spec["history_bytes"] // (self.dimensions + BUDGET_ROW_OVERHEAD))
        self.memory = np.zeros((0, self.rows, self.dimensions), np.float32)
        self.next = np.zeros(0, np.int64)
        self.usual = np.zeros(0, np.float32)

    def grow(self, series):
        more = series - len(self.next)
        self.memory = np.concatenate([self.memory, np.full((more, self.rows, self.dimensions), FAR, np.float32)])
        self.next = np.concatenate([self.next, np.zeros(more, np.int64)])
        self.usual = np.concatenate([self.usual, np.zeros(more, np.float32)])

    def score(self, series, vectors):
        """Standardised distance of each vector to its series' memory, which it then enters. No series stands twice."""
        nearest = np.empty(len(series), np.float32)
        for at in range(0, len(series), CHUNK):
            part = slice(at, at + CHUNK)
            difference = self.memory[series[part]] - vectors[part, None, :]
            nearest[part] = np.einsum("rkd,rkd->rk", difference, difference).min(axis=1)
        known = nearest < FAR
        distance = np.where(known, np.sqrt(nearest), 0.0).astype(np.float32)
        usual = self.usual[series]
        standard = np.divide(distance, usual, out=np.zeros_like(distance), where=usual > 1e-9)
        keep = ~known | (distance > EPSILON * usual)
        kept, places = series[keep], self.next[series[keep]]
        self.memory[kept, places] = vectors[keep]
        self.next[kept] = (places + 1) % self.rows
        self.usual[series] = np.where(usual > 0, usual + 0.02 * (distance - usual), distance)
        return standard


class Pipeline:
    """Windows of all series, the bundle's graph, and the heads."""

    def __init__(self, bundle, singly):
        self.singly = singly
        manifest = tomllib.loads((bundle / "model.toml").read_text())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), options, ["CPUExecutionProvider"])
        # Of rows without bursts, as they are here, there is no spectrum to look at.
        self.heads = [Head(spec) for spec in manifest["head"] if spec.get("input", "window") == "window"]
        others = (input for input in self.session.get_inputs() if input.name != "window")
        self.others = {input.name: input.shape[1] for input in others}
        self.slots = {}
        self.windows = np.zeros((0, manifest["input_window"]), np.float32)
        self.count = np.zeros(0)
        self.mean, self.square = np.zeros(0), np.zeros(0)

    def slots_of(self, names):
        for name in names:
            self.slots.setdefault(name, len(self.slots))
        more = len(self.slots) - len(self.windows)
        if more > 0:
            self.windows = np.concatenate([self.windows, np.zeros((more, self.windows.shape[1]), np.float32)])
            self.count = np.concatenate([self.count, np.zeros(more)])
            self.mean = np.concatenate([self.mean, np.zeros(more)])
            self.square = np.concatenate([self.square, np.zeros(more)])
            for head in self.heads:
                head.grow(len(self.slots))
        return np.array([self.slots[name] for name in names], np.int64)

    def read(self, payload):
        batch = pa.ipc.open_stream(io.BytesIO(payload)).read_next_batch()
        series = batch.column("series")
        rows = np.asarray(batch.column("control").is_null())
        slots = self.slots_of(series.dictionary.to_pylist())[np.asarray(series.indices)[rows]]
        return batch, rows, slots, np.asarray(batch.column("value"))[rows]

    def learn_scale(self, payload):
        """Commissioning: sums for the scaling of each series, without scores."""
        _, _, slots, values = self.read(payload)
        np.add.at(self.count, slots, 1)
        np.add.at(self.mean, slots, values)
        np.add.at(self.square, slots, values * values)

    def freeze_scale(self):
        count = np.maximum(self.count, 1)
        self.mean = self.mean / count
        self.square = np.sqrt(np.maximum(self.square / count - self.mean**2, 1e-12))

    def score(self, payload):
        """A score batch for a batch of samples, and how many windows it holds."""
        batch, rows, slots, values = self.read(payload)
        scaled = ((values - self.mean[slots]) / np.maximum(self.square[slots], 1e-6)).astype(np.float32)
        # Rows of one series come one after the other: the n-th of each series make the n-th round.
        order = np.argsort(slots, kind="stable")
        ordered = slots[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, np.int64)
        turn = np.empty(len(slots), np.int64)
        turn[order] = np.arange(len(slots)) - np.repeat(starts, np.diff(np.r_[starts, len(slots)]))
        rounds = [np.flatnonzero(turn == n) for n in range(turn.max() + 1)] if len(turn) else []
        if self.singly:
            rounds = np.arange(len(slots))[:, None]
        windows = np.empty((len(slots), self.windows.shape[1]), np.float32)
        for chosen in rounds:
            at = slots[chosen]
            window = np.empty((len(at), self.windows.shape[1]), np.float32)
            window[:, :-1], window[:, -1] = self.windows[at, 1:], scaled[chosen]
            self.windows[at] = windows[chosen] = window
        # onnxruntime asks for every input, whatever is computed.
        others = {name: np.zeros((len(windows), width), np.float32) for name, width in self.others.items()}
        outputs = self.session.run([head.output for head in self.heads], {"window": windows, **others})
        score = np.zeros(len(slots), np.float32)
        for head, vectors in zip(self.heads, outputs):
            vectors = vectors.reshape(len(slots), head.dimensions)
            for chosen in rounds:
                found = head.weight * head.score(slots[chosen], vectors[chosen])
                score[chosen] = np.maximum(score[chosen], found)
        scores = pa.RecordBatch.from_pydict({
            "series": batch.column("series").filter(pa.array(rows)),
            "time": batch.column("time").filter(pa.array(rows)),
            "score": score,
            "alert": score > 8.0,
        })
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, scores.schema) as writer:
            writer.write_batch(scores)
        return sink.getvalue(), len(slots)


async def pull(subscription, count):
    try:
        return await subscription.fetch(count, timeout=2)
    except (asyncio.TimeoutError, nats.errors.TimeoutError):
        return []


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    parser.add_argument("--subject", required=True, help="where samples are")
    parser.add_argument("--output", required=True, help="where scores go")
    parser.add_argument("--scored-from", required=True, type=int, help="sequence before which samples only set the scale")
    parser.add_argument("--last", required=True, type=int, help="sequence of the last message")
    parser.add_argument("--seconds", required=True, type=float)
    parser.add_argument("--singly", action="store_true", help="judge row by row, each after all before it")
    arguments = parser.parse_args()
    pipeline = Pipeline(arguments.bundle, arguments.singly)
    connection = await nats.connect(arguments.url)
    stream = connection.jetstream()
    config = ConsumerConfig(ack_policy=AckPolicy.ALL, deliver_policy=DeliverPolicy.ALL, max_ack_pending=20000)
    durable = "peer-singly" if arguments.singly else "peer"
    subscription = await stream.pull_subscribe(arguments.subject, durable, stream="SAMPLES", config=config)
    reached, scored, started, seconds = 0, 0, None, 0.0
    while reached < arguments.last and seconds < arguments.seconds:
        # A message holds up to 1 MB: what eddy's own bound on a pull amounts to.
        messages = await pull(subscription, 4)
        if not messages:
            break
        for message in messages:
            reached = message.metadata.sequence.stream
            if reached < arguments.scored_from:
                pipeline.learn_scale(message.data)
                continue
            if started is None:
                pipeline.freeze_scale()
                started = time.monotonic()
            scores, windows = pipeline.score(message.data)
            await stream.publish(arguments.output, scores)
            scored += windows
            seconds = time.monotonic() - started
        await messages[-1].ack()
    print(json.dumps({"windows": scored, "seconds": seconds}))
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main())
