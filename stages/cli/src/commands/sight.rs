//! What the help says of the commands that show a gateway.

pub(super) const ALERTS: &str = "\
Examples:
  eddy alerts                         all that there are
  eddy alerts --follow --since 1h     the last hour's, and what comes
  eddy alerts --json | jq .data.device
  eddy alerts --hash                  the same on two gateways: the same alerts, byte for byte; it is the demo's alerts_hash

A line is: event time, severity, opened|updated|closed, device, channels with their share, tail probability, episode.";

pub(super) const HEALTH: &str = "\
Examples:
  eddy health                         a container's health check: one line, and nothing but the exit code to be read
  eddy health --dir /var/lib/eddy || journalctl -u eddy
  eddy health --console 127.0.0.1:8087

Exit codes:
  0 the server answers, its streams are there and no process was given up; or the console answers   1 not so: the line says what";

pub(super) const STATUS: &str = "\
Examples:
  eddy status
  eddy status --json | jq '.readers[] | select(.lag_messages > 0)'";

pub(super) const TOP: &str = "\
Examples:
  eddy top                                            the gateway in ./.run
  eddy top --dir /var/lib/eddy --as alice             who is said to have acknowledged
  eddy top --url nats://gateway:4222 --site plant-1   another machine's: without its disk and its stages' own figures
  eddy top --pane alerts --filter 'pump 1'
  eddy top --once                                     one frame as text
  eddy top --once --pane alerts --size 120x40 --svg top.svg

Keys: ? tells them. Alerts of one device and one cause are one line, those that need somebody first. Hidden are alerts of devices under
maintenance, and those of a bundle's first minutes unless they are critical: counted at the top, shown by s. What somebody says goes to
the gateway as a control and, where its folder is here, into its audit log. NO_COLOR=1: without colours.

Exit codes:
  0 ended as asked   1 the gateway does not answer, or there is no terminal   64 bad command line";

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
