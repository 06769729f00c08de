"""What the dashboards show. A panel: kind, title, unit, what it means when it is bad, queries with their legends.

Where nothing may have been counted yet, a query ends with `or on () vector(0)`: what has no data on a gateway that is well would be taken for a
broken panel."""

S = 'site=~"$site"'


def total(name, by="site", more=""):
    """The rate of a counter over $window, added up."""
    return f"sum by ({by}) (rate({name}{{{S}{more}}}[$window]))"


def rise(name, by="site", more=""):
    """How much a counter rose in $window."""
    return f"sum by ({by}) (increase({name}{{{S}{more}}}[$window]))"


def gauge(name, by="site", how="max", more=""):
    """A gauge, the worst of what is put together."""
    return f"{how} by ({by}) ({name}{{{S}{more}}})"


def p99(name, by="site, stage", more="", quantile=0.99):
    """A quantile of a histogram over $window."""
    return f"histogram_quantile({quantile}, sum by ({by}, le) (rate({name}_bucket{{{S}{more}}}[$window])))"


def or_none(query):
    """0 where there is nothing."""
    return f"({query}) or on () vector(0)"


DETECT = ',stage="detect"'
LATENCY = [(p99("eddy_age_seconds", "site", DETECT, q), f"{{{{site}}}} p{round(q * 100)}") for q in (0.5, 0.95, 0.99)]

ON_CALL = [
    ("stat", "Alerts of this gateway itself", "none", "Rules that fire: RUNBOOK.md has an entry for each",
     [(or_none('count(ALERTS{alertstate="firing"})'), "firing")]),
    ("stat", "Processes that answer", "none", "Fewer than there should be: one is down, or is not scraped",
     [(f'sum(up{{job="eddy",{S}}})', "up")]),
    ("stat", "Given up", "none", "Over 0: the supervisor does not start it again; eddy status says which and why",
     [(gauge("eddy_given_up_processes", how="sum"), "{{site}}")]),
    ("stat", "Staleness", "s", "How old the newest event is that has been judged; it grows where nothing comes, or nothing gets through",
     [(f"eddy:staleness_seconds{{{S}}}", "{{site}}")]),
    ("stat", "Disk full in", "s", "At the last hour's pace: a full disk wedges the streams",
     [(f"min by (site) (eddy:disk_full_seconds{{{S}}})", "{{site}}")]),
    ("stat", "Region", "none", "0: sync has no connection, and what is due waits in its queue",
     [(or_none(gauge("eddy_sync_links", how="min")), "{{site}}")]),
    ("timeseries", "Sensor to alert", "s", "From a reading's arrival to the ack of the scores that it is in; the aim is a p99 of 50 ms", LATENCY),
    ("timeseries", "Latency budget burnt", "none", "1 spends the budget of 1% exactly; over 14.4 it is gone in two days",
     [(f"eddy:budget_burn:{span}{{{S}}}", f"{{{{site}}}} {span}") for span in ("5m", "30m", "1h", "6h")]),
    ("timeseries", "Alerts of devices", "none", "Many at once: a fault that many devices see, or a bundle that does not fit them",
     [(rise("eddy_emitted_alerts_total", more=DETECT), "{{site}}")]),
    ("timeseries", "Readings in, rows judged", "rowsps", "The two part where a stage falls behind, or samples are made for gaps",
     [(total("eddy_emitted_rows_total", "stage"), "{{stage}}")]),
    ("timeseries", "Messages that wait", "none", "Rising: that stage is slower than what comes",
     [(gauge("eddy_lag_messages", "site, stage", "sum"), "{{site}} {{stage}}")]),
    ("timeseries", "Without progress", "s", "Over 30 s with input pending: the stage is stuck",
     [(gauge("eddy_progress_age_seconds", "site, stage"), "{{site}} {{stage}}")]),
    ("timeseries", "Dead letters", "none", "Input that was put aside; SIDE has the originals and the reason",
     [(rise("eddy_rejected_readings_total", "site, stage, reason"), "{{site}} {{stage}} {{reason}}")]),
    ("timeseries", "Streams against their bounds", "percentunit", "At 1 a stream refuses, or drops its oldest",
     [(f"max by (site, stream) (eddy:stream_fill:ratio{{{S}}})", "{{site}} {{stream}}")]),
    ("timeseries", "Pushed back", "none", "Publishes that a full stream sent back",
     [(rise("eddy_backpressure_total", "site, stage"), "{{site}} {{stage}}")]),
    ("timeseries", "Disk free", "bytes", "Below 256 MB LMDB, logs and the server are in danger",
     [(gauge("eddy_disk_free_bytes", how="min"), "{{site}} free"), (gauge("eddy_disk_size_bytes"), "{{site}} size")]),
    ("timeseries", "Processor and memory in use", "percentunit", "Near 1 everything waits for everything else",
     [(f"eddy:cpu_used:ratio{{{S}}}", "{{site}} processor"), (f"max by (site) (eddy:memory_used:ratio{{{S}}})", "{{site}} memory")]),
    ("timeseries", "Alerts not delivered", "none", "Sinks' receivers do not take them",
     [(or_none(rise("eddy_undelivered_alerts_total", "site, sink")), "{{site}} {{sink}} given up"),
      (or_none(gauge("eddy_sink_pending_alerts", "site, sink", "sum")), "{{site}} {{sink}} waiting")]),
]

DEBUG = [
    ("timeseries", "A batch, p99", "s", "From a pull to the ack of its output",
     [(p99("eddy_batch_seconds"), "{{site}} {{stage}}")]),
    ("timeseries", "A publish, p99", "s", "One fsync and one round trip: the disk, or the server",
     [(p99("eddy_publish_seconds"), "{{site}} {{stage}}")]),
    ("timeseries", "Writing state, p99", "s", "The disk of the states",
     [(p99("eddy_commit_seconds"), "{{site}} {{stage}}")]),
    ("timeseries", "Age of outputs by hop, p99", "s", "The hop at which it jumps is the slow one",
     [(p99("eddy_age_seconds"), "{{site}} {{stage}}")]),
    ("timeseries", "Age of the newest message when pulled", "s", "How long a message lies before it is read",
     [(gauge("eddy_lag_seconds", "site, stage"), "{{site}} {{stage}}")]),
    ("timeseries", "Bytes pulled", "Bps", "What each stage reads", [(total("eddy_received_bytes_total", "site, stage"), "{{site}} {{stage}}")]),
    ("timeseries", "Rows a message", "none", "Batches grow under load: 1 means that there is none",
     [(f'{total("eddy_emitted_rows_total", "site, stage")} / clamp_min({total("eddy_emitted_messages_total", "site, stage")}, 1e-9)',
       "{{site}} {{stage}}")]),
    ("timeseries", "Messages in", "none", "Replayed ones count again after a restart",
     [(total("eddy_received_messages_total", "site, stage"), "{{site}} {{stage}}"), (total("eddy_received_rows_total", "site, stage"), "{{site}} {{stage}} rows")]),
    ("timeseries", "Handed and not acknowledged", "none", "Inputs whose state is not on disk yet",
     [(gauge("eddy_in_flight_messages", "site, stage"), "{{site}} {{stage}}")]),
    ("timeseries", "Readers behind, as the server sees it", "none", "Also of stages that do not run",
     [(gauge("eddy_consumer_pending_messages", "site, stream, consumer"), "{{site}} {{consumer}} of {{stream}}")]),
    ("timeseries", "Readers' open messages, as the server sees it", "none", "Near limits.ack_pending_max nothing more is handed out",
     [(gauge("eddy_consumer_in_flight_messages", "site, stream, consumer"), "{{site}} {{consumer}} of {{stream}}")]),
    ("timeseries", "Streams", "bytes", "Half of its bound is what the janitor keeps",
     [(gauge("eddy_stream_bytes", "site, stream"), "{{site}} {{stream}}")]),
    ("timeseries", "Messages in streams", "none", "", [(gauge("eddy_stream_messages", "site, stream"), "{{site}} {{stream}}")]),
    ("timeseries", "Decisions", "none", "What stages decided, by kind: gaps filled, windows gated, bundles refused",
     [(total("eddy_decisions_total", "site, stage, kind"), "{{site}} {{stage}} {{kind}}")]),
    ("timeseries", "Rows not taken", "none", "Twice, or too late",
     [(total("eddy_duplicate_rows_total", "site, stage"), "{{site}} {{stage}} duplicate"), (total("eddy_late_rows_total", "site, stage"), "{{site}} {{stage}} late")]),
    ("timeseries", "Conditions of devices", "none", "Silent, stuck, out of range, a clock that is off",
     [(or_none(rise("eddy_health_conditions_total", "site, condition")), "{{site}} {{condition}}")]),
    ("timeseries", "Windows embedded", "percentunit", "Below 1 windows are put aside: the bundle, or memory",
     [(f"eddy:inference_success:5m{{{S}}}", "{{site}}")]),
    ("timeseries", "Tail probabilities", "percentunit", "Calibrated, 0.9 lie in decade 1, 0.09 in 1e-1, 0.009 in 1e-2",
     [(f'{total("eddy_scored_rows_total", "tail")} / ignoring (tail) group_left clamp_min(sum(rate(eddy_scored_rows_total{{{S}}}[$window])), 1e-9)',
       "{{tail}}")]),
    ("timeseries", "Drift of the scores", "none", "Population stability index against the day: over 0.2 the fleet is not what it was",
     [(f"eddy:score_drift:psi{{{S}}}", "{{site}}")]),
    ("timeseries", "Share of rows by decade, hour and day", "percentunit", "What the drift comes from",
     [(f"eddy:score_share:1h{{{S}}}", "{{site}} {{tail}} hour"), (f"eddy:score_share:1d{{{S}}}", "{{site}} {{tail}} day")]),
    ("timeseries", "From an alert to a word on it, p90", "s", "Without labels nothing is learned of what alerts mean",
     [(f"eddy:label_lag_seconds:p90{{{S}}}", "{{site}}")]),
    ("timeseries", "Memory", "bytes", "PSS of each process, nats-server's beside the stages'",
     [(gauge("eddy_memory_bytes", "site, stage", "sum"), "{{site}} {{stage}}")]),
    ("timeseries", "Processor", "none", "Cores that each process keeps busy",
     [(total("eddy_cpu_seconds_total", "site, stage"), "{{site}} {{stage}}")]),
    ("timeseries", "The machine", "bytes", "What can still be had without swapping",
     [(gauge("eddy_machine_available_bytes"), "{{site}} available"), (gauge("eddy_machine_memory_bytes"), "{{site}} in all")]),
    ("timeseries", "Cold starts", "s", "From the start of a process to its first output, and until nothing was left to pull",
     [(gauge("eddy_first_output_seconds", "site, stage"), "{{site}} {{stage}} first output"),
      (gauge("eddy_caught_up_seconds", "site, stage"), "{{site}} {{stage}} caught up")]),
    ("timeseries", "Starts", "none", "Again and again: its log says why",
     [(f"sum by (site, stage) (changes(eddy_start_time_seconds{{{S}}}[$window]))", "{{site}} {{stage}}"),
      (rise("eddy_process_restarts_total", "site, process"), "{{site}} {{process}} by the supervisor")]),
    ("timeseries", "Trouble", "none", "Panics, fences, feeds opened anew, reconnects, files that are no good",
     [(rise(f"eddy_{name}_total", "site, stage"), "{{site}} {{stage}} " + name.replace("_", " "))
      for name in ("panics", "fenced", "consumer_resets", "connections", "files_refused")]),
    ("timeseries", "State on disk", "bytes", "Memory follows variety, not time: it should level off",
     [(gauge("eddy_state_bytes", "site, stage", "sum"), "{{site}} {{stage}}")]),
    ("timeseries", "Sinks", "none", "What receivers took, what filters left out, what is tried again, what was removed before it was read",
     [(or_none(rise(f"eddy_{name}_total", "site, sink")), "{{site}} {{sink}} " + name.replace("_", " "))
      for name in ("delivered_alerts", "filtered_alerts", "delivery_retries", "sink_gaps")]),
    ("timeseries", "The link", "none", "Bytes a second it carries, on their way, held classes, times that all else had to wait",
     [(or_none(gauge("eddy_sync_link_bytes")), "{{site}} bytes a second"), (or_none(gauge("eddy_sync_in_flight_bytes")), "{{site}} on their way"),
      (or_none(gauge("eddy_sync_held_classes")), "{{site}} classes held"), (or_none(rise("eddy_sync_congestions_total")), "{{site}} congestions")]),
    ("timeseries", "Round trip to the region", "s", "With the region's write to disk", [(or_none(gauge("eddy_sync_round_trip_seconds")), "{{site}}")]),
    ("timeseries", "Export", "none", "Rows and bytes that are out, what waits, what was gone, rounds that failed",
     [(or_none(rise("eddy_exported_rows_total", "site, class")), "{{site}} {{class}} rows"), (or_none(rise("eddy_exported_bytes_total", "site, class")), "{{site}} {{class}} bytes"),
      (or_none(gauge("eddy_export_pending_messages", "site, class")), "{{site}} {{class}} waiting"),
      (or_none(rise("eddy_export_missing_messages_total", "site, class")), "{{site}} {{class}} gone"), (or_none(rise("eddy_export_failures_total")), "{{site}} failed rounds")]),
]

HUB = 'stage=~"hub|region"'
FLEET = [
    ("stat", "Sites", "none", "Fewer than there are: one is not seen at all", [(f"count(count by (site) (eddy_machine_cores{{{S},site!=\"\"}}))", "sites")]),
    ("stat", "Without the region", "none", "Sites whose sync has no connection", [(or_none(f"count(eddy_sync_links{{{S}}} == 0)"), "sites")]),
    ("stat", "Certificates that expire", "none", "Within 30 days: eddy certs --renew", [(or_none(f"count(eddy_certificate_expiry_seconds{{{S}}} - time() < 30 * 86400)"), "files")]),
    ("stat", "Bundles", "none", "Over 1: sites judge by different ones", [(f'count(count by (bundle) (eddy_bundles{{{S},role="active"}} == 1))', "active")]),
    ("stat", "Bundles refused, a day", "none", "The follower says why: eddy status", [(or_none(f'sum(increase(eddy_rollouts_total{{{S},outcome="refused"}}[1d]))'), "refused")]),
    ("stat", "Targets down", "none", "", [(or_none('count(up{job="eddy"} == 0)'), "down")]),
    ("timeseries", "Staleness by site", "s", "A site that stands still: its devices, or its gateway", [(f"eddy:staleness_seconds{{{S}}}", "{{site}}")]),
    ("timeseries", "Newest event by site", "dateTimeAsIso", "", [(f"1000 * {gauge('eddy_newest_event_seconds')}", "{{site}}")]),
    ("timeseries", "Sensor to alert by site", "s", "5 minutes: half, 95 and 99 of a hundred outputs",
     [(f"eddy:latency_seconds:{q}{{{S}}}", f"{{{{site}}}} {q}") for q in ("p50", "p95", "p99")]),
    ("timeseries", "Alerts of devices by site", "none", "", [(rise("eddy_emitted_alerts_total", more=DETECT), "{{site}}")]),
    ("timeseries", "Rows judged by site", "rowsps", "", [(total("eddy_emitted_rows_total", more=DETECT), "{{site}}")]),
    ("timeseries", "Drift of the scores by site", "none", "Of one site alone: that site changed; of all: the bundle", [(f"eddy:score_drift:psi{{{S}}}", "{{site}}")]),
    ("timeseries", "Data reduction", "none", "Bytes from devices for each byte to the region, over a day", [(f"eddy:data_reduction:1d{{{S}}}", "{{site}}")]),
    ("timeseries", "Bytes a day to the region", "bytes", "By class; the lowest class goes first where a budget is spent", [(f"eddy:sync_sent_bytes:1d{{{S}}}", "{{site}} {{class}}")]),
    ("timeseries", "Sent to the region", "Bps", "", [(total("eddy_sync_sent_bytes_total", "site, class"), "{{site}} {{class}}")]),
    ("timeseries", "Entries to the region", "none", "And those of which the region was told that they never come",
     [(or_none(rise("eddy_sync_sent_entries_total", "site, class")), "{{site}} {{class}}"), (or_none(rise("eddy_sync_gap_entries_total", "site, class")), "{{site}} {{class}} gaps")]),
    ("timeseries", "Waiting for the region", "bytes", "What lies in sync's queue", [(gauge("eddy_sync_queue_bytes", "site, class"), "{{site}} {{class}}")]),
    ("timeseries", "Entries waiting, and lost", "none", "Lost: a budget was full",
     [(gauge("eddy_sync_queue_entries", "site, class"), "{{site}} {{class}}"), (gauge("eddy_sync_queue_gap_entries", "site, class"), "{{site}} {{class}} lost")]),
    ("timeseries", "Bundles wanted, by outcome", "none", "", [(rise("eddy_rollouts_total", "site, outcome"), "{{site}} {{outcome}}")]),
    ("timeseries", "Dead letters by site", "none", "", [(f"sum by (site, reason) (eddy:dead_letters:15m{{{S}}})", "{{site}} {{reason}}")]),
    ("timeseries", "Disk free by site", "bytes", "", [(gauge("eddy_disk_free_bytes", how="min"), "{{site}}")]),
    ("timeseries", "Hub: messages", "none", "Batches of all sites", [('sum by (instance) (rate(eddy_received_messages_total{stage="hub"}[$window]))', "{{instance}}"),
     ('sum by (instance) (rate(eddy_received_rows_total{stage="hub"}[$window]))', "{{instance}} entries")]),
    ("timeseries", "Hub: messages that wait", "none", "Rising: it merges slower than sites send", [('max by (instance) (eddy_lag_messages{stage="hub"})', "{{instance}}")]),
    ("timeseries", "Hub: memory and processor", "none", "", [(f"sum by (stage, instance) (eddy_memory_bytes{{{HUB}}})", "{{instance}} bytes"),
     (f"sum by (stage, instance) (rate(eddy_cpu_seconds_total{{{HUB}}}[$window]))", "{{instance}} cores")]),
    ("timeseries", "Hub: streams", "bytes", "One a site", [('max by (stream) (eddy_stream_bytes{stage="region"})', "{{stream}}"),
     ('max by (stream) (eddy_stream_bound_bytes{stage="region"})', "{{stream}} bound")]),
    ("timeseries", "Hub: refused and decided", "none", "Batches that are not what they claim to be", [('sum by (kind) (rate(eddy_decisions_total{stage="hub"}[$window]))', "{{kind}}"),
     ('sum by (reason) (rate(eddy_rejected_readings_total{stage="hub"}[$window]))', "{{reason}}")]),
]

DASHBOARDS = {"on-call": ("eddy: on call", ON_CALL), "debug": ("eddy: debug", DEBUG), "fleet": ("eddy: fleet", FLEET)}
