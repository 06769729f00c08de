"""nats-py sends readings of one device: requests on `direct.`, or publishes with acknowledgement on `ingest.`.

Prints how many were acknowledged: all of them, for what was not answered is sent again.
"""

import argparse
import asyncio
import json
import os

import nats

BASE_S = 1_767_571_200


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--site", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--values", required=True, help="file with one value a line")
    parser.add_argument("--count", type=int, required=True, help="so many at least")
    parser.add_argument("--until", help="goes on until this file is there")
    parser.add_argument("--publish", action="store_true", help="publishes on ingest. instead of requests on direct.")
    arguments = parser.parse_args()
    with open(arguments.values) as file:
        values = [float(line) for line in file]

    async def quiet(_):
        pass

    client = await nats.connect(
        arguments.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=quiet, disconnected_cb=None
    )
    stream = client.jetstream(timeout=2)

    async def one(i):
        reading = json.dumps({"ts": BASE_S + i, "temperature": values[i]}).encode()
        if arguments.publish:
            await stream.publish(f"ingest.{arguments.site}.{arguments.device}", reading)
            return
        answer = await client.request(f"direct.{arguments.site}.{arguments.device}", reading, timeout=2)
        if answer.headers and "Nats-Service-Error" in answer.headers:
            raise RuntimeError(answer.headers["Nats-Service-Error"])
        assert json.loads(answer.data) == {"stored": 1}, answer.data

    sent = 0
    while sent < min(arguments.count, len(values)) or (
        arguments.until and sent < len(values) and not os.path.exists(arguments.until)
    ):
        try:
            await one(sent)
        except AssertionError:
            raise
        except Exception:
            await asyncio.sleep(0.1)
            continue
        sent += 1
        if arguments.until:
            await asyncio.sleep(0.005)
    print(sent)
    await client.close()


asyncio.run(main())
