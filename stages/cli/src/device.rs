//! `eddy maintain` and `eddy device`: an operator's word, as a control on CONTROL.

use clap::{Args, Subcommand};
use eddy_schemas::{Control, ControlKind, Timestamp};

use crate::{
    alerts::parse_duration,
    gateway::{Gateway, GatewayArgs},
    output,
};

/// Maintain's part of the command line.
#[derive(Args, Clone, Debug)]
pub struct MaintainArgs {
    /// The device, as its operator calls it
    pub device: String,
    /// For how long, in the device's own time: `90s`, `30m`, `2h`, `7d`
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, conflicts_with = "off")]
    pub duration: Option<i64>,
    /// End it now
    #[arg(long)]
    pub off: bool,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What can be done with a device.
#[derive(Subcommand, Clone, Debug)]
pub enum DeviceCommand {
    /// Forget everything about the device, as if it had never been seen
    Reset(DeviceArgs),
    /// Learn the device's ordinary behaviour anew from the readings that follow
    Recommission(DeviceArgs),
}

/// One device of one gateway.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// The device, as its operator calls it
    pub device: String,
    /// Which gateway
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// `eddy maintain`.
///
/// # Errors
/// If the control is not stored.
pub async fn maintain(args: &MaintainArgs) -> anyhow::Result<()> {
    let now = crate::now();
    let until = args.duration.map(|nanoseconds| now.saturating_add(nanoseconds));
    let kind = ControlKind::Maintenance { device: args.device.clone(), on: !args.off, until };
    let what = match (args.off, until) {
        (true, _) => "maintenance ends".to_owned(),
        (false, Some(until)) => format!("maintenance until {}", eddy_schemas::rfc3339(until)),
        (false, None) => "maintenance until `eddy maintain --off`".to_owned(),
    };
    send(&args.gateway, kind, now, &what).await
}

/// `eddy device`.
///
/// # Errors
/// If the control is not stored.
pub async fn device(command: &DeviceCommand) -> anyhow::Result<()> {
    let now = crate::now();
    match command {
        DeviceCommand::Reset(args) => {
            send(&args.gateway, ControlKind::DeviceReset { device: args.device.clone() }, now, "reset").await
        }
        DeviceCommand::Recommission(args) => {
            send(&args.gateway, ControlKind::Recommission { device: args.device.clone() }, now, "re-commissioning")
                .await
        }
    }
}

async fn send(gateway: &GatewayArgs, kind: ControlKind, now: Timestamp, what: &str) -> anyhow::Result<()> {
    say(&gateway.connect().await?, kind, now, what).await
}

/// Sends an operator's word, and prints what was said.
///
/// # Errors
/// If it is none that capture takes, or is not stored.
pub async fn say(gateway: &Gateway, kind: ControlKind, now: Timestamp, what: &str) -> anyhow::Result<()> {
    let control = control(kind, now, std::process::id());
    // What capture would refuse is refused here, where somebody reads it.
    Control::parse(control.to_json().as_bytes()).map_err(anyhow::Error::msg)?;
    let sequence = gateway.say(&control).await?;
    let of = control.device().unwrap_or(&gateway.site);
    output::line(&format!("{}: {what} (control {sequence})", output::printable(of)));
    Ok(())
}

fn control(kind: ControlKind, now: Timestamp, process: u32) -> Control {
    Control { id: format!("cli-{now}-{process}"), origin: "cli".into(), time: now, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_is_what_capture_takes() {
        let kind = ControlKind::Maintenance { device: "a b".into(), on: true, until: Some(9) };
        let control = control(kind, 7, 1);
        assert_eq!((control.id.as_str(), control.subject_token()), ("cli-7-1", "maintenance"));
        assert_eq!(Control::parse(control.to_json().as_bytes()), Ok(control));
    }
}
