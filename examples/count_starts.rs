//! The least that a reader of process starts can do: lets the agent's program in the kernel run, empties its ring ten
//! times a second, and counts. `scripts/bench/side-by-side.sh` compares the agent with it.
//!
//! Says `ready`, reads until its standard input ends, then says how many records it took and how many were lost.

#[cfg(ebpf)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use twinward::sys::bpf::{Layout, Options, Program, Programs};
    use twinward::sys::host::Host;

    let layout = Layout::read(&Host::system())?;
    let options = Options { arguments: 4097, ring: 256 << 10, loopback: false, ephemeral: (32_768, 60_999) };
    let mut programs = Programs::load(&layout, options)?;
    programs.set_awake(true)?;
    programs.attach(Program::Exec)?;
    println!("ready");
    let input = std::io::stdin();
    let every = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let mut count = 0_u64;
    loop {
        let mut ended = [PollFd::new(&input, PollFlags::IN)];
        let ready = poll(&mut ended, Some(&every))?;
        while programs.take(|_| count += 1) {}
        if ready > 0 {
            println!("{count} {}", programs.lost(Program::Exec)?);
            return Ok(());
        }
    }
}

#[cfg(not(ebpf))]
fn main() {
    eprintln!("this build has no programs for the kernel: install clang and build again");
    std::process::exit(1);
}
