//! [`Image`](crate::image::Image)s as disks: a flat map behind the store's seam, which forgets nothing and never fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use workqueue::{
    backend::DiskSpace,
    store::{DirId, Disk, DiskError, DiskFile, DiskResult, Kind, Meta, Read},
};

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// See the [module](self). A clone is the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct MapDisk(Arc<Mutex<Files>>);

impl MapDisk {
    pub(crate) fn of(files: &[(String, Vec<u8>)]) -> Self {
        let files = files
            .iter()
            .map(|(path, bytes)| (PathBuf::from(path), bytes.clone()));
        Self(Arc::new(Mutex::new(files.collect())))
    }

    fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All files with what is in them.
    pub(crate) fn all(&self) -> Files {
        self.files().clone()
    }

    fn take(&self, operation: &'static str, path: &Path) -> DiskResult<Vec<u8>> {
        let taken = self.files().remove(path);
        taken.ok_or_else(|| DiskError::new(operation, path, io::ErrorKind::NotFound))
    }

    fn new_file(&self, path: &Path, bytes: Vec<u8>) -> DiskResult<()> {
        let mut files = self.files();
        if files.contains_key(path) {
            return Err(DiskError::new("create", path, io::ErrorKind::AlreadyExists));
        }
        files.insert(path.to_owned(), bytes);
        Ok(())
    }
}

/// An open file of a [`MapDisk`].
#[derive(Debug)]
pub(crate) struct MapFile {
    disk: MapDisk,
    path: PathBuf,
}

impl DiskFile for MapFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> DiskResult<()> {
        let mut files = self.disk.files();
        let now = files.entry(self.path.clone()).or_default();
        let end = offset as usize + bytes.len();
        now.resize(now.len().max(end), 0);
        now[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> DiskResult<()> {
        Ok(())
    }

    fn read_at(&self, offset: u64, limit: usize) -> DiskResult<Vec<u8>> {
        let files = self.disk.files();
        let now = files.get(&self.path).map(Vec::as_slice).unwrap_or_default();
        let from = now.len().min(offset as usize);
        Ok(now[from..now.len().min(from.saturating_add(limit))].to_vec())
    }

    fn size(&self) -> DiskResult<u64> {
        Ok(self.disk.look(&self.path)?.size)
    }

    fn read_written(&self) -> DiskResult<Vec<u8>> {
        self.read_at(0, self.size()? as usize)
    }
}

impl Disk for MapDisk {
    type File = MapFile;

    fn create(&self, path: &Path, size: u64) -> DiskResult<MapFile> {
        self.new_file(path, vec![0; size as usize])?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> DiskResult<MapFile> {
        self.look(path)?;
        Ok(MapFile {
            disk: self.clone(),
            path: path.to_owned(),
        })
    }

    fn open_to_write(&self, path: &Path) -> DiskResult<MapFile> {
        self.open(path)
    }

    fn write_new(&self, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        self.new_file(path, bytes.to_vec())
    }

    fn write_whole(&self, _aside: &Path, path: &Path, bytes: &[u8]) -> DiskResult<()> {
        self.new_file(path, bytes.to_vec())
    }

    fn read(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        let meta = self.look(path)?;
        Ok(if meta.size > limit {
            Read::TooLarge(meta)
        } else {
            Read::Whole(meta, self.files().get(path).cloned().unwrap_or_default())
        })
    }

    fn read_own(&self, path: &Path, limit: u64) -> DiskResult<Read> {
        self.read(path, limit)
    }

    fn holds(&self, path: &Path, bytes: &[u8]) -> bool {
        self.files().get(path).is_some_and(|found| found == bytes)
    }

    fn look(&self, path: &Path) -> DiskResult<Meta> {
        let size = self.files().get(path).map(Vec::len);
        let size =
            size.ok_or_else(|| DiskError::new("look at", path, io::ErrorKind::NotFound))? as u64;
        Ok(Meta {
            kind: Kind::File,
            inode: 1,
            modified: 0,
            size,
            born: None,
        })
    }

    fn directory(&self, path: &Path) -> DiskResult<DirId> {
        self.look(path).map(|meta| DirId::plain(meta.inode))
    }

    fn rename(&self, from: &Path, to: &Path) -> DiskResult<()> {
        let bytes = self.take("rename", from)?;
        self.files().insert(to.to_owned(), bytes);
        Ok(())
    }

    fn rename_new(&self, from: &Path, to: &Path) -> DiskResult<()> {
        if self.files().contains_key(to) {
            return Err(DiskError::new("rename", from, io::ErrorKind::AlreadyExists));
        }
        self.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> DiskResult<()> {
        self.take("remove", path).map(drop)
    }

    fn truncate(&self, path: &Path, size: u64) -> DiskResult<()> {
        let mut bytes = self.take("cut", path)?;
        bytes.resize(size as usize, 0);
        self.files().insert(path.to_owned(), bytes);
        Ok(())
    }

    fn make_dir(&self, _path: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn list(&self, path: &Path, entry: &mut dyn FnMut(&OsStr, Kind)) -> DiskResult<()> {
        let mut found = BTreeSet::new();
        for name in self.files().keys() {
            let Ok(rest) = name.strip_prefix(path) else {
                continue;
            };
            let mut parts = rest.components();
            let first = parts.next().map(|part| part.as_os_str().to_owned());
            found.extend(first.map(|first| (first, parts.next().is_some())));
        }
        for (name, is_directory) in &found {
            let kind = if *is_directory {
                Kind::Directory
            } else {
                Kind::File
            };
            entry(name, kind);
        }
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> DiskResult<()> {
        Ok(())
    }

    fn sync_everything(&self) -> DiskResult<()> {
        Ok(())
    }

    fn space(&self) -> DiskResult<DiskSpace> {
        Ok(DiskSpace {
            free: u64::MAX,
            size: u64::MAX,
        })
    }
}
