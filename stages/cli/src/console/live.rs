//! The view of the gateway in a folder, also when that was started anew at another address.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{interval, sleep},
};

use crate::{
    gateway::{Gateway, GatewayArgs, GatewayFile},
    watch::{Watcher, view::View},
};

/// How often it is looked where the gateway is.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A view, and the how manyth it is.
pub(super) type Numbered = (u64, Arc<View>);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Live {
    gateway: watch::Receiver<Gateway>,
    views: watch::Receiver<Numbered>,
    task: JoinHandle<()>,
}

impl Live {
    /// Connects.
    ///
    /// # Errors
    /// If nobody answers there.
    pub async fn start(args: GatewayArgs) -> anyhow::Result<Self> {
        let first = args.connect().await?;
        let (gateways, gateway) = watch::channel(first);
        let (show, views) = watch::channel(Numbered::default());
        let task = tokio::spawn(follow(args, gateways, show));
        Ok(Self { gateway, views, task })
    }

    /// The gateway as it is reached now.
    pub fn gateway(&self) -> Gateway {
        self.gateway.borrow().clone()
    }

    /// Every receiver sees the newest view, and may miss some between.
    pub fn views(&self) -> watch::Receiver<Numbered> {
        self.views.clone()
    }

    /// What `views` holds, of `gateway`, for tests.
    #[cfg(test)]
    pub fn of(gateway: Gateway, views: watch::Receiver<Numbered>) -> Self {
        Self { gateway: watch::channel(gateway).1, views, task: tokio::spawn(async {}) }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(args: GatewayArgs, gateways: watch::Sender<Gateway>, show: watch::Sender<Numbered>) {
    let mut number = 0;
    loop {
        let gateway = gateways.borrow().clone();
        let watcher = Watcher::start(gateway.clone(), args.bus.dir.clone());
        let mut views = watcher.views();
        let moved = moved(&args, &gateway);
        tokio::pin!(moved);
        let elsewhere = loop {
            tokio::select! {
                changed = views.changed() => match changed {
                    Ok(()) => {
                        number += 1;
                        show.send_replace((number, views.borrow_and_update().clone()));
                    }
                    // What watched has ended: it is begun anew.
                    Err(_) => {
                        sleep(LOOK_EVERY).await;
                        break None;
                    }
                },
                elsewhere = &mut moved => break Some(elsewhere),
            }
        };
        if let Some(elsewhere) = elsewhere {
            gateways.send_replace(elsewhere);
        }
    }
}

/// Returns once the gateway of the folder is at another address and answers there.
async fn moved(args: &GatewayArgs, gateway: &Gateway) -> Gateway {
    let mut look = interval(LOOK_EVERY);
    loop {
        look.tick().await;
        let file = GatewayFile::read(&args.bus.dir).filter(|_| args.bus.url.is_none());
        let is_elsewhere = file.is_some_and(|file| file.machine.url != gateway.client.url());
        if is_elsewhere && let Ok(found) = args.connect().await {
            return found;
        }
    }
}
