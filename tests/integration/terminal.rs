//! A pseudo-terminal to run a command in, and to close.

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::setsid;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A terminal, which closes when it is dropped.
pub struct Terminal {
    file: File,
    said: Vec<u8>,
}

impl Terminal {
    pub fn open() -> Self {
        // The other end of a pseudo-terminal. Read without waiting, and not inherited by any child: it must
        // have one owner to be closed.
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open("/dev/ptmx")
            .unwrap();
        let said = Vec::new();
        Terminal { file, said }
    }

    /// Start a command as a terminal starts its shell.
    pub fn start(&self, command: &mut Command) -> Child {
        let (mut number, unlock): (libc::c_uint, libc::c_int) = (0, 0);
        let fd = self.file.as_raw_fd();
        // SAFETY: both calls read or write the one number that they are given.
        unsafe {
            assert_eq!(libc::ioctl(fd, libc::TIOCSPTLCK, &unlock), 0);
            assert_eq!(libc::ioctl(fd, libc::TIOCGPTN, &mut number), 0);
        }
        let screen = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(format!("/dev/pts/{number}"))
            .unwrap();
        command
            .stdin(screen.try_clone().unwrap())
            .stdout(screen.try_clone().unwrap())
            .stderr(screen)
            .env("TERM", "xterm");
        let lead = || {
            setsid()?;
            // SAFETY: standard input is the terminal by now; no handler is given that could be called.
            unsafe {
                assert_eq!(libc::ioctl(0, libc::TIOCSCTTY, 0), 0);
                signal(Signal::SIGHUP, SigHandler::SigDfl)?; // whatever the tests run under
            }
            Ok(())
        };
        // SAFETY: plain system calls between fork and exec.
        unsafe { command.pre_exec(lead) };
        let child = command.spawn().unwrap();
        // The command would keep its end of the terminal open.
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        child
    }

    /// Press keys, such as `\x03` for Ctrl-C.
    pub fn press(&mut self, keys: &str) {
        self.file.write_all(keys.as_bytes()).unwrap();
    }

    /// Take in what was written: a terminal that nobody reads makes its writers wait.
    pub fn read(&mut self) {
        let _ = self.file.read_to_end(&mut self.said); // ends where it would have to wait
    }

    /// All that was written.
    pub fn said(&mut self) -> String {
        self.read();
        String::from_utf8_lossy(&self.said).into_owned()
    }
}
