//! Stores that must not start: what they are told, or the directory, is wrong.

use std::{fs, path::Path};

use anyhow::Result;
use tempfile::TempDir;
use tests::{Cluster, Options, Verb, free_address};

/// What a store that is started with these arguments, alone, says and how it ends.
async fn start(data_dir: &Path, more: &[&str]) -> Result<Verb> {
    let (address, data_dir) = (free_address()?, data_dir.display().to_string());
    let mut arguments = vec!["start", "--single", "--addr", &address, "--data-dir", &data_dir];
    arguments.extend(more);
    Verb::run(&arguments).await
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn an_unknown_configuration_key_names_the_nearest_one() -> Result<()> {
    let folder = TempDir::new()?;
    let data_dir = folder.path().join("data");
    let file = folder.path().join("sheaf.toml");
    fs::write(&file, "raft_worker = 2\n")?;

    let refused = start(&data_dir, &["--config", &file.display().to_string()]).await?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.error.contains("there is no setting raft_worker"), "{refused:?}");
    assert!(refused.error.contains("did you mean raft_workers?"), "{refused:?}");
    assert!(refused.error.contains("sheaf.toml"), "where it is: {refused:?}");

    let refused = start(&data_dir, &["--set", "blok_cache_size=1GiB"]).await?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.error.contains("did you mean block_cache_size?"), "{refused:?}");

    let refused = start(&data_dir, &["--set", "raft_workers=many"]).await?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.error.contains("1 to 64"), "what is allowed: {refused:?}");

    let refused = start(&data_dir, &["--set", "cluster_id=7"]).await?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.error.contains("a setting of the cluster"), "{refused:?}");
    assert!(!data_dir.exists(), "nothing was made");
    Ok(())
}

#[tokio::test]
async fn a_foreign_directory_is_left_as_it_is() -> Result<()> {
    let letters = TempDir::new()?;
    fs::write(letters.path().join("letters.txt"), "dear")?;

    // What a RocksDB of another program looks like from outside.
    let database = TempDir::new()?;
    for (name, text) in [("CURRENT", "MANIFEST-000004\n"), ("IDENTITY", "of another"), ("000003.log", "log")]
    {
        fs::write(database.path().join(name), text)?;
    }
    fs::write(database.path().join("LOCK"), "")?;

    for folder in [letters, database] {
        let before = names(folder.path())?;
        let refused = start(folder.path(), &[]).await?;
        assert_eq!(refused.code, Some(5), "{refused:?}");
        assert!(refused.error.contains("not a data directory of sheaf"), "{refused:?}");
        assert!(refused.error.contains("--data-dir"), "what to do: {refused:?}");
        assert_eq!(names(folder.path())?, before, "nothing was added");
    }
    Ok(())
}

#[tokio::test]
async fn a_directory_of_a_newer_format_is_left_as_it_is() -> Result<()> {
    let folder = TempDir::new()?;
    let marker = "sheaf data directory, format 2\n";
    fs::write(folder.path().join("SHEAF"), marker)?;
    fs::create_dir(folder.path().join("log"))?;

    let refused = start(folder.path(), &[]).await?;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.error.contains("format 2"), "{refused:?}");
    assert!(refused.error.contains("newer"), "what to do: {refused:?}");
    assert_eq!(fs::read_to_string(folder.path().join("SHEAF"))?, marker);
    assert!(names(&folder.path().join("log"))?.is_empty(), "nothing was opened");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_directory_is_refused_and_the_first_serves_on() -> Result<()> {
    let cluster = Cluster::start(Options { stores: 1, ..Options::default() }).await?;
    let client = cluster.client().await?;
    client.put("before", "1").await?;

    let refused = start(cluster.data_dir(0), &[]).await?;
    assert_eq!(refused.code, Some(5), "{refused:?}");
    assert!(refused.error.contains("another process uses"), "{refused:?}");
    assert!(refused.error.contains("hint:"), "{refused:?}");

    client.put("after", "2").await?;
    assert_eq!(client.get("before").await?.as_deref(), Some(&b"1"[..]));
    Ok(())
}
