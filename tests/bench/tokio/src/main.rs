// SPDX-License-Identifier: Apache-2.0
// The tokio contender:
//   tokio-bench spawn plain|rlimits|pipes IN_FLIGHT COUNT COMMAND
//   tokio-bench exit COUNT EXIT_CHILD
//   tokio-bench many COUNT IDLE_SECONDS COMMAND ARG...
use std::fs::File;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::FromRawFd;
use std::process::Stdio;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

fn clock_ns() -> u64 {
    let mut time: libc::timespec = unsafe { mem::zeroed() };
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn own_cpu() -> f64 {
    let mut used: libc::rusage = unsafe { mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut used) };
    let micros = used.ru_utime.tv_usec + used.ru_stime.tv_usec;
    (used.ru_utime.tv_sec + used.ru_stime.tv_sec) as f64 + micros as f64 / 1e6
}

fn three_rlimits() -> io::Result<()> {
    for (what, value) in [(libc::RLIMIT_NOFILE, 1024), (libc::RLIMIT_CORE, 0), (libc::RLIMIT_STACK, 8 << 20)] {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        if unsafe { libc::setrlimit(what, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

async fn one(how: &str, command: &str) {
    let mut builder = Command::new(command);
    match how {
        "pipes" => {
            builder.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = builder.spawn().unwrap();
            drop(child.stdin.take());
            assert!(child.wait_with_output().await.unwrap().status.success());
            return;
        }
        "rlimits" => {
            unsafe { builder.pre_exec(three_rlimits) };
        }
        _ => {}
    }
    assert!(builder.spawn().unwrap().wait().await.unwrap().success());
}

async fn batch(how: &str, in_flight: usize, count: i64, command: &str) {
    let left = Arc::new(AtomicI64::new(count));
    let workers: Vec<_> = (0..in_flight)
        .map(|_| {
            let (left, how, command) = (left.clone(), how.to_string(), command.to_string());
            tokio::spawn(async move {
                while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                    one(&how, &command).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

async fn spawn(words: &[String]) {
    let (how, in_flight, count, command) = (&words[0], words[1].parse().unwrap(), words[2].parse().unwrap(), &words[3]);
    batch(how, in_flight, 32, command).await;
    let (cpu, begun) = (own_cpu(), Instant::now());
    batch(how, in_flight, count, command).await;
    let seconds = begun.elapsed().as_secs_f64();
    println!("rate {:.1} spawns/s\ncpu {:.1} us/spawn", count as f64 / seconds, (own_cpu() - cpu) / count as f64 * 1e6);
}

fn pipe() -> (File, File) {
    let mut ends = [0i32; 2];
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) }
}

async fn exit_once(program: &str) -> (f64, f64) {
    let ((child_in, mut tell), (mut hear, child_out)) = (pipe(), pipe());
    let mut child = Command::new(program).stdin(child_in).stdout(child_out).spawn().unwrap();
    hear.read_exact(&mut [0u8]).unwrap();
    let waiter = tokio::spawn(async move {
        child.wait().await.unwrap();
        clock_ns()
    });
    tokio::time::sleep(Duration::from_millis(2)).await;
    let begun = clock_ns();
    tell.write_all(b"x").unwrap();
    let over = waiter.await.unwrap();
    let mut stamp = [0u8; 8];
    hear.read_exact(&mut stamp).unwrap();
    ((over - begun) as f64 / 1e3, (over - u64::from_ne_bytes(stamp)) as f64 / 1e3)
}

fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

async fn exit(words: &[String]) {
    for _ in 0..10 {
        exit_once(&words[1]).await;
    }
    let (mut told, mut left) = (vec![], vec![]);
    for _ in 0..words[0].parse::<usize>().unwrap() {
        let (from_told, from_exit) = exit_once(&words[1]).await;
        told.push(from_told);
        left.push(from_exit);
    }
    for (name, values) in [("exit", &mut left), ("told", &mut told)] {
        println!("{name}_p50 {:.1} us\n{name}_p99 {:.1} us", percentile(values, 0.5), percentile(values, 0.99));
    }
}

fn resident_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as f64 / 1024.0
}

fn descriptors() -> f64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as f64
}

fn sleeps() -> i64 {
    let mut used: libc::rusage = unsafe { mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut used) };
    used.ru_nvcsw
}

fn start(count: usize, command: &[String]) -> Vec<Child> {
    let one = |_| {
        let mut builder = Command::new(&command[0]);
        builder.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        builder.spawn().unwrap()
    };
    (0..count).map(one).collect()
}

async fn stop(mut children: Vec<Child>) {
    for child in &mut children {
        child.start_kill().unwrap();
    }
    for mut child in children {
        child.wait().await.unwrap();
    }
}

async fn many(words: &[String]) {
    let (count, seconds): (usize, u64) = (words[0].parse().unwrap(), words[1].parse().unwrap());
    stop(start(8, &words[2..])).await;
    let (memory, fds, begun) = (resident_kib(), descriptors(), Instant::now());
    let children = start(count, &words[2..]);
    let started = begun.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (memory, fds) = ((resident_kib() - memory) / count as f64, (descriptors() - fds) / count as f64);
    let (cpu, slept) = (own_cpu(), sleeps());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (cpu, slept) = ((own_cpu() - cpu) * 1e3 / seconds as f64, sleeps() - slept - 1);
    let begun = Instant::now();
    stop(children).await;
    println!("start {started:.3} s\nmemory {memory:.3} KiB/child\nfds {fds:.3} fds/child\nidle_cpu {cpu:.3} ms/s");
    println!("wakeups {slept} times\nstop {:.3} s", begun.elapsed().as_secs_f64());
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words[0].as_str() {
        "spawn" => spawn(&words[1..]).await,
        "exit" => exit(&words[1..]).await,
        "many" => many(&words[1..]).await,
        other => panic!("unknown work: {other}"),
    }
}
