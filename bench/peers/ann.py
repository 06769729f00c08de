"""Nearest neighbours with another index: see README.md. Prints one line of JSON; what was found goes to a file, and is judged there.

One engine a process, so that memory is its own. Vectors are rows of raw f32 in the machine's order, ids raw u32. Everything runs on
one thread: adding, building, and searching, which is one query at a time through the engine's own Python interface.
"""

import argparse
import json
import os
import pathlib
import shutil
import tempfile
import time

import numpy as np

COUNT = 10
RECALL = 0.95
SAME = 0.002  # Recalls that lie no farther apart are as good as each other.
EFFORTS = [10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128, 192, 256, 384, 512, 1024]
BATCH = 1_000


class Hnswlib:
    """hnswlib, the HNSW paper's authors' own: f32."""

    efforts, named = EFFORTS, "ef"

    def __init__(self, base, folder):
        import hnswlib

        self.index, self.folder = hnswlib.Index("l2", base.shape[1]), folder
        self.index.init_index(max_elements=len(base), M=16, ef_construction=120, random_seed=1)
        self.index.set_num_threads(1)
        self.index.add_items(base, num_threads=1)

    def effort(self, effort):
        self.index.set_ef(effort)

    def search(self, query):
        return self.index.knn_query(query, COUNT, num_threads=1)[0][0]

    def save(self):
        self.index.save_index(str(self.folder / "index"))


class FaissFlat:
    """faiss, every vector measured: f32."""

    efforts, named = [0], ""

    def __init__(self, base, folder):
        import faiss

        faiss.omp_set_num_threads(1)
        self.faiss, self.folder = faiss, folder
        self.index = self.made(base)

    def made(self, base):
        index = self.faiss.IndexFlatL2(base.shape[1])
        index.add(base)
        return index

    def effort(self, effort):
        pass

    def search(self, query):
        return self.index.search(query[None], COUNT)[1][0]

    def save(self):
        self.faiss.write_index(self.index, str(self.folder / "index"))


class FaissIvf(FaissFlat):
    """faiss, inverted lists of int8 vectors."""

    efforts, named = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512], "nprobe"

    def made(self, base):
        lists = int(4 * len(base) ** 0.5)
        self.quantizer = self.faiss.IndexFlatL2(base.shape[1])
        kind = self.faiss.ScalarQuantizer.QT_8bit
        index = self.faiss.IndexIVFScalarQuantizer(self.quantizer, base.shape[1], lists, kind, self.faiss.METRIC_L2)
        # By default a component's range is that of all vectors. Windows of a series that stood still while it was commissioned are
        # saturated (65504, the largest f16), and would leave one step of int8 to all others.
        index.sq.rangestat = self.faiss.ScalarQuantizer.RS_quantiles
        index.sq.rangestat_arg = 0.01
        # Fewer than 39 a list is what faiss warns of; it draws no more than 256 a list by itself.
        index.train(base[: 64 * lists])
        index.add(base)
        return index

    def effort(self, effort):
        self.index.nprobe = min(effort, self.index.nlist)


class Usearch:
    """usearch: HNSW of f16 vectors."""

    efforts, named = EFFORTS, "ef"

    def __init__(self, base, folder):
        from usearch.index import Index

        self.folder = folder
        self.index = Index(ndim=base.shape[1], metric="l2sq", dtype="f16", connectivity=16, expansion_add=120)
        self.index.add(np.arange(len(base), dtype=np.uint64), base, threads=1)

    def effort(self, effort):
        self.index.expansion_search = effort

    def search(self, query):
        return self.index.search(query, COUNT, threads=1).keys

    def save(self):
        self.index.save(str(self.folder / "index"))


class QdrantEdge:
    """Qdrant's shard in a process: batches go through its log to disk, then its optimizer builds the graph."""

    efforts, named = EFFORTS, "ef"

    def __init__(self, base, folder):
        import qdrant_edge as qdrant

        self.qdrant, self.ef = qdrant, None
        graph = qdrant.HnswIndexConfig(m=16, ef_construct=120, full_scan_threshold=10, max_indexing_threads=1)
        optimizers = qdrant.EdgeOptimizersConfig(default_segment_number=1, indexing_threshold=100)
        vectors = qdrant.EdgeVectorParams(size=base.shape[1], distance=qdrant.Distance.Euclid)
        config = qdrant.EdgeConfig(vectors=vectors, hnsw_config=graph, optimizers=optimizers, max_search_threads=1)
        self.shard = qdrant.EdgeShard.create(str(folder), config)
        for at in range(0, len(base), BATCH):
            batch = enumerate(base[at : at + BATCH].tolist(), at)
            points = [qdrant.Point(id=id, vector=vector) for id, vector in batch]
            self.shard.update(qdrant.UpdateOperation.upsert_points(points))
        self.shard.optimize()
        self.shard.flush()

    def effort(self, effort):
        self.params = self.qdrant.SearchParams(hnsw_ef=effort)

    def search(self, query):
        asked = self.qdrant.Query.Nearest(query.tolist())
        found = self.shard.search(self.qdrant.SearchRequest(query=asked, limit=COUNT, params=self.params))
        return [point.id for point in found]

    def save(self):
        self.shard.flush()


ENGINES = {
    "hnswlib": Hnswlib,
    "faiss-flat": FaissFlat,
    "faiss-ivf-sq8": FaissIvf,
    "usearch-f16": Usearch,
    "qdrant-edge": QdrantEdge,
}


def rss_mb():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def disk_mb(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()) / 2**20


def found(engine, queries):
    """What it finds, `COUNT` a query; places that it leaves empty hold an id that no vector has."""
    ids = np.full((len(queries), COUNT), np.iinfo(np.uint32).max, np.uint32)
    for row, query in zip(ids, queries):
        near = np.asarray(engine.search(query), np.int64)
        near = near[near >= 0]
        row[: len(near)] = near
    return ids


def recall(ids, base, queries, truth):
    """By distance, so that of equally near ones any will do."""
    worst = ((base[truth[:, -1]] - queries) ** 2).sum(1)
    reached = 0
    for row, query, most in zip(ids, queries, worst):
        near = base[row[row < len(base)]]
        reached += (((near - query) ** 2).sum(1) <= most * (1 + 1e-6)).sum()
    return reached / truth.size


def setting(engine, effort, reached):
    told = f"{engine.named} {effort}" if engine.named else "exact"
    return told if reached >= RECALL else f"{told} (reached {reached:.3f})"


def swept(engine, base, queries, truth):
    """The least effort that reaches the recall; where none does, because an index is coarse, the least that is as good as any."""
    tried = []
    for effort in engine.efforts:
        engine.effort(effort)
        ids = found(engine, queries)
        tried.append((effort, ids, recall(ids, base, queries, truth)))
        if tried[-1][2] >= RECALL:
            break
    best = max(reached for _, _, reached in tried)
    chosen = next(one for one in tried if one[2] >= min(RECALL, best - SAME))
    engine.effort(chosen[0])
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--base", type=pathlib.Path, required=True)
    parser.add_argument("--queries", type=pathlib.Path, required=True)
    parser.add_argument("--truth", type=pathlib.Path, required=True, help="ids of the ten nearest of each query")
    parser.add_argument("--dimensions", type=int, required=True)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--found", type=pathlib.Path, required=True, help="where the found ids go")
    args = parser.parse_args()
    base = np.fromfile(args.base, np.float32).reshape(-1, args.dimensions)
    queries = np.fromfile(args.queries, np.float32).reshape(-1, args.dimensions)
    truth = np.fromfile(args.truth, np.uint32).reshape(len(queries), COUNT)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="index-", dir=args.found.parent))
    # What importing takes is not the index's.
    ENGINES[args.engine](base[:BATCH].copy(), pathlib.Path(tempfile.mkdtemp(dir=args.found.parent)))
    before = rss_mb()
    began = time.perf_counter()
    engine = ENGINES[args.engine](base, folder)
    build_s = time.perf_counter() - began
    effort, ids, reached = swept(engine, base, queries, truth)
    taken = []
    for _ in range(args.passes):
        for query in queries:
            began = time.perf_counter_ns()
            engine.search(query)
            taken.append((time.perf_counter_ns() - began) / 1e3)
    rss = rss_mb() - before
    engine.save()
    ids.tofile(args.found)
    figures = {
        "setting": setting(engine, effort, reached),
        "build_per_s": len(base) / build_s,
        "p50_us": float(np.quantile(taken, 0.5)),
        "p99_us": float(np.quantile(taken, 0.99)),
        "rss_mb": rss,
        "disk_mb": disk_mb(folder),
    }
    shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
