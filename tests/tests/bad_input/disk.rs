//! Disks that fill up, and files that are not as they were written.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use proto::{kvrpcpb as kv, tikvpb::tikv_client::TikvClient};
use tests::{Cluster, Options, eventually};

use crate::requests;

const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of the small device, of what fills it at first, and of what the store keeps free.
const DEVICE_MIB: usize = 512;
const FILLER_MIB: usize = 192;
const RESERVE_MIB: usize = 128;

/// A store on a small device of its own. The device is mounted where only the store's process sees it, and goes with it:
/// nothing is left behind however the test ends.
async fn on_small_device() -> Result<Cluster> {
    let mount = format!("mount -t tmpfs -o size={DEVICE_MIB}m sheaf-test \"$DATA_DIR\" && exec \"$@\"");
    let own_users = if rustix::process::getuid().is_root() { "--mount" } else { "--map-root-user" };
    let launcher = ["unshare", "--mount", own_users, "--propagation", "private", "sh", "-c", &mount, "sh"];
    let options = Options {
        stores: 1,
        configuration: format!(
            "reserve_space = \"{RESERVE_MIB}MiB\"\nlog_memtable_size = \"16MiB\"\nkv_memtable_size = \"16MiB\"\n"
        ),
        launcher: launcher.map(str::to_owned).to_vec(),
        ..Options::default()
    };
    Cluster::start(options)
        .await
        .context("a store on a mount of its own (this needs `unshare` and the right to use it)")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_refuses_writes_and_heals() -> Result<()> {
    let cluster = on_small_device().await?;
    // The device as the store sees it.
    let filler = format!("/proc/{}/root{}/filler", cluster.pid(0)?, cluster.data_dir(0).display());
    fs::write(&filler, vec![1; FILLER_MIB << 20])?;

    let context = requests::context(&cluster).await?;
    let mut client = TikvClient::new(cluster.channel(0).await?);
    let put = |key: String, len: usize| kv::RawPutRequest {
        context: Some(context.clone()),
        key: key.into(),
        value: vec![2; len].into(),
        ..kv::RawPutRequest::default()
    };
    let mut written = 0;
    let refused = loop {
        let answer = client.raw_put(put(format!("fill-{written:04}"), 1 << 20)).await?.into_inner();
        match answer.region_error {
            Some(error) => break error,
            None => written += 1,
        }
        ensure!(written < DEVICE_MIB, "the device is smaller than what was written");
    };
    assert!(refused.disk_full.is_some(), "{refused:?}");
    assert!(written > 0, "there was room at first");

    // Well above what a write needs, so nothing below has met a full device; and reads go on.
    let get = |key: String| kv::RawGetRequest {
        context: Some(context.clone()),
        key: key.into(),
        ..kv::RawGetRequest::default()
    };
    for at in [0, written - 1] {
        let found = client.raw_get(get(format!("fill-{at:04}"))).await?.into_inner();
        assert_eq!((found.region_error, found.value.len()), (None, 1 << 20));
    }
    assert!(
        client.raw_get(get(format!("fill-{written:04}"))).await?.into_inner().not_found,
        "nothing was done"
    );
    assert!(cluster.log(0).contains("free space of the data directory"), "{}", cluster.log(0));

    fs::remove_file(&filler)?;
    eventually("writes to be taken again", PATIENCE, async || {
        let answer = client.raw_put(put("healed".to_owned(), 10)).await?.into_inner();
        ensure!(answer.region_error.is_none(), "{answer:?}");
        Ok(())
    })
    .await?;
    assert_eq!(client.raw_get(get("healed".to_owned())).await?.into_inner().value.len(), 10);
    Ok(())
}

/// A store that was killed after it had acknowledged `count` writes.
async fn killed(count: u64) -> Result<Cluster> {
    let mut cluster = Cluster::start(Options { stores: 1, ..Options::default() }).await?;
    let client = cluster.client().await?;
    for at in 0..count {
        client.put(key(at), vec![3; 200]).await?;
    }
    cluster.kill(0)?;
    Ok(cluster)
}

fn key(at: u64) -> Bytes {
    format!("key-{at:04}").into()
}

/// The files of the log engine whose names contain this, oldest first.
fn log_files(cluster: &Cluster, part: &str) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(cluster.data_dir(0).join("log"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().contains(part))
            && fs::metadata(&path)?.len() > 0
        {
            paths.push(path);
        }
    }
    paths.sort();
    ensure!(!paths.is_empty(), "no {part} file");
    Ok(paths)
}

/// Starts the store: whether it serves the first `count` writes; if not, what it said before it ended with code 1.
async fn start(cluster: &mut Cluster, count: u64) -> Result<std::result::Result<(), String>> {
    let before = cluster.log(0).len();
    cluster.spawn(0)?;
    let mut ended = None;
    eventually("the store to serve or to end", PATIENCE, async || {
        if let Some(status) = cluster.try_wait(0)? {
            ended = Some(status);
            return Ok(());
        }
        let client = cluster.client().await?;
        for at in 0..count {
            let value = client.get(key(at)).await?;
            ensure!(value.is_some(), "key {at} is lost");
        }
        Ok(())
    })
    .await?;
    match ended {
        None => Ok(Ok(())),
        Some(status) => {
            ensure!(status.code() == Some(1), "it ended with {status}");
            Ok(Err(cluster.log(0)[before..].to_owned()))
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_record_that_is_cut_short_opens() -> Result<()> {
    let mut cluster = killed(50).await?;
    for cut in [1, 5, 12] {
        let path = log_files(&cluster, ".log")?.pop().context("a file")?;
        let file = File::options().write(true).open(&path)?;
        file.set_len(file.metadata()?.len() - cut)?;
        // The write before the last one is whole.
        if let Err(said) = start(&mut cluster, 48).await? {
            bail!("{cut} bytes were cut off: {said}");
        }
        let client = cluster.client().await?;
        client.put(key(48), vec![3; 200]).await?;
        client.put(key(49), vec![3; 200]).await?;
        cluster.kill(0)?;
    }
    Ok(())
}

/// Flips a bit; twice, and the file is as it was.
fn flip(path: &Path, offset: u64) -> Result<()> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1 << (offset % 8);
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&byte)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bytes_in_the_log_are_refused_and_name_the_way_out() -> Result<()> {
    let mut cluster = killed(50).await?;
    for (part, count) in [(".log", 8), ("MANIFEST", 4), ("CURRENT", 2)] {
        for path in log_files(&cluster, part)? {
            let len = fs::metadata(&path)?.len();
            for offset in (0..count).map(|at| (len - 1) * at / (count - 1)) {
                flip(&path, offset)?;
                let Err(said) = start(&mut cluster, 50).await? else {
                    bail!("it serves with a flipped bit at {offset} of {}", path.display());
                };
                for words in ["rebuild this store under a new id", "hint:", "empty data directory"] {
                    ensure!(
                        said.contains(words),
                        "byte {offset} of {}: {words} is missing in {said}",
                        path.display()
                    );
                }
                flip(&path, offset)?;
            }
        }
    }
    // To refuse is to change nothing.
    match start(&mut cluster, 50).await? {
        Ok(()) => Ok(()),
        Err(said) => bail!("the repaired files are refused: {said}"),
    }
}
