"""InfluxDB's own Python client writes readings of one device, as its documentation shows it.

Prints how many readings were written with success: all of them, for what failed is written again.
"""

import argparse
import os
import time

from influxdb_client import InfluxDBClient, Point, WritePrecision
from influxdb_client.client.write_api import SYNCHRONOUS

BASE_S = 1_767_571_200


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--values", required=True, help="file with one value a line")
    parser.add_argument("--count", type=int, required=True, help="so many at least")
    parser.add_argument("--until", help="goes on until this file is there")
    parser.add_argument("--gzip", action="store_true")
    arguments = parser.parse_args()
    with open(arguments.values) as file:
        values = [float(line) for line in file]

    sent = 0
    while sent < arguments.count or (arguments.until and not os.path.exists(arguments.until)):
        if sent + 10 > len(values):
            break
        # Seconds for one batch, nanoseconds for the next: the client says which in the request.
        precision = WritePrecision.S if sent // 10 % 2 else WritePrecision.NS
        unit = 1 if precision == WritePrecision.S else 1_000_000_000
        points = [
            Point("temperature")
            .tag("device", arguments.device)
            .field("value", values[i])
            .time((BASE_S + i) * unit, precision)
            for i in range(sent, sent + 10)
        ]
        while True:
            try:
                with InfluxDBClient(
                    url=arguments.url, token=arguments.token, org="plant", timeout=3_000, enable_gzip=arguments.gzip
                ) as client:
                    write = client.write_api(write_options=SYNCHRONOUS)
                    write.write(bucket="eddy", record=points, write_precision=precision)
                break
            except Exception as error:
                # A gateway that is away or full; a batch that is wrong would come here forever, and the test end it.
                if getattr(error, "status", None) == 400:
                    raise
                time.sleep(0.1)
        sent += len(points)
        if arguments.until:
            time.sleep(0.02)
    print(sent)


main()
