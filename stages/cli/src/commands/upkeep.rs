//! What the help says of the commands that look after a gateway.

pub(super) const DOCTOR: &str = "\
Examples:
  eddy doctor                         everything, at a gateway in ./.run that runs or not
  eddy doctor --strict --json         for a monitoring system: warnings count too
  eddy doctor --dir /var/lib/eddy --config /etc/eddy.toml
  eddy doctor index                   the index alone: every window findable, no folder left over, as many as DETECTIONS tells
  eddy doctor index --sample 100000   all of a small index

Looked at: versions of the binaries beside each other and of nats-server; each stage's check of the config; room on the disk against
the streams' bounds; encryption, where gateway.encryption asks for it; certificates and keys that the config names; the server's and
the stages' health, and what was given up; the clock; streams near their bounds; consumers that do not progress; dead letters of the
last day; the bundles that judge; the index. Each finding says where, what, and what to do. What needs a running gateway is left
out where none runs, and said. Only the wall clock's kernel status, files and the bus are read; nothing is changed.

Exit codes:
  0 sound, or warnings alone   1 an error was found (with --strict a warning), or nothing is there to look at   64 bad command line";

pub(super) const CONSOLE: &str = "\
Examples:
  eddy console                                        http://127.0.0.1:8087/ for the gateway in ./.run
  eddy console --dir /var/lib/eddy --as alice         who acknowledges and labels, in the controls and in the audit log
  ssh -L 8087:127.0.0.1:8087 gateway                  from elsewhere, without opening a port
  eddy console --listen 10.0.0.7:8087 --token-file /etc/eddy/console.token

On loopback nobody logs in; requests whose Host is no loopback name, address of --listen or --host are refused, and so is what another
page asks for. On other addresses a token is needed, by the login form or as `Authorization: Bearer`. It is HTTP: where the network is
not yours put a proxy with TLS before it, and name that with --host. What is decided there is said as a control, and stands in
DIR/audit: `eddy audit verify DIR/audit`. A gateway that is started anew is found again.

Exit codes:
  0 stopped as asked   1 failed, or no gateway answers   64 bad command line, or an address that needs a token";

pub(super) const BACKUP: &str = "\
Examples:
  eddy backup --to /mnt/usb                           a gateway that runs in ./.run, while it runs
  eddy backup --to plant.tar --dir /var/lib/eddy      one in another folder; stopped: with --config, as `eddy up` has it
  eddy backup --to plant.tar --with-keys              with the certificates, keys and secrets that the config names

In it are streams, state, config and bundles, each with its digest. Readings and vectors are in it as they lie on the gateway, and
not encrypted: keep it where these may be. A running gateway is not held up; its janitor waits meanwhile. It must run where
process ids mean the same as to the stages: on the same machine or in the same container. Not in it: logs, and a region's hub.

Exit codes:
  0 written   1 not; nothing is left then   64 bad command line or config";

pub(super) const SUPPORT: &str = "\
Examples:
  eddy support-bundle --to plant.tar.zst
  eddy support-bundle --to plant.tar.zst --names      with the names of devices and channels
  tar --zstd -tf plant.tar.zst                        what is in it

Versions, the effective config, the ends of the logs, every stage's metrics, the state of streams and consumers, doctor's report,
reasons and counts of dead letters. Not in it: readings, alerts, payloads, state, keys and secrets (their values are taken out of all
the rest too). Names of devices and channels that the streams know become pseudonyms; the site's stays. Log lines of devices that no stream
holds any more may name them: look at it before you send it.

Exit codes:
  0 written   1 not   64 bad command line";

pub(super) const RESTORE: &str = "\
Examples:
  eddy restore plant.tar --dir /var/lib/eddy          then `eddy up --dir /var/lib/eddy --config /var/lib/eddy/config.toml`
  eddy restore plant.tar --dir new --config eddy.toml with another config of the same site

All of it is read and held against its digests before anything is written. The config is put into DIR as config.toml, keys into
DIR/keys, where config.toml names them then. The bus has new keys of its own, if its server tells its users apart.

Exit codes:
  0 restored   1 damaged, another site's, or DIR is not empty   64 bad command line or config";
