//! The terminal: taken when it begins, and given back however it ends.

use std::{
    io::{self, BufWriter, Stdout},
    sync::Once,
    thread,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, DisableBracketedPaste, EnableBracketedPaste, Event},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};
use tokio::sync::mpsc;

/// Keys that wait to be taken.
const KEYS_MAX: usize = 64;
/// A frame goes out by one write, or a few: over SSH a torn one flickers.
const FRAME_BYTES: usize = 64 << 10;
/// What Rust ends with after a panic.
const EXIT_PANIC: i32 = 101;

/// A terminal in which everything is drawn anew; what it was comes back when this is dropped.
pub struct Screen {
    /// Draws.
    pub terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal of standard output. From now on a panic, of whatever thread, gives it back and ends the process: nobody
    /// could read it otherwise, or go on after it.
    ///
    /// # Errors
    /// That it is none.
    pub fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let told = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                told(panic);
                std::process::exit(EXIT_PANIC);
            }));
        });
        enable_raw_mode()?;
        // From here on it is given back whatever fails.
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, io::stdout())));
        let taken = execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste).and(terminal);
        let clean = taken.and_then(|mut terminal| terminal.clear().map(|()| terminal));
        clean.map(|terminal| Self { terminal }).inspect_err(|_| give_back())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // A terminal that went away needs nothing back.
    let _ = execute!(io::stdout(), DisableBracketedPaste, LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
}

/// Keys, and changes of the terminal's size, by a thread that waits for them as long as the process lives.
pub fn events() -> mpsc::Receiver<Event> {
    let (told, events) = mpsc::channel(KEYS_MAX);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if told.blocking_send(event).is_err() {
                return;
            }
        }
    });
    events
}
