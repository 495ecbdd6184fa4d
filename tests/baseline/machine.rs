//! Machines as `tests/fixtures/baseline` describes them: a table of paths, on top of the group's `[base]`. A path has its
//! content, or a table with `content` or `append` (to what the base has), `link`, `directory`, `absent`, and `mode`,
//! `uid`, `gid`; what is not given is as in the base, else root's and 0644, 0755 for directories.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;
use twinward::sys::host::{Attributes, Host};

/// What a machine has, by path.
pub type Side = BTreeMap<PathBuf, Entry>;

#[derive(Clone, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    Content(String),
    Node(Node),
}

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    content: Option<String>,
    append: Option<String>,
    link: Option<PathBuf>,
    directory: bool,
    absent: bool,
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Entry {
    fn node(&self) -> Node {
        match self {
            Self::Content(text) => Node { content: Some(text.clone()), ..Node::default() },
            Self::Node(node) => node.clone(),
        }
    }
}

/// One path of the side on top of what the base has there.
fn over(base: Option<&Entry>, entry: &Entry) -> Node {
    let (base, mut node) = (base.map(Entry::node).unwrap_or_default(), entry.node());
    if let Some(more) = node.append.take() {
        node.content = Some(base.content.clone().unwrap_or_default() + &more);
    }
    node.directory |= base.directory;
    Node {
        content: node.content.or(base.content),
        link: node.link.or(base.link),
        mode: node.mode.or(base.mode),
        uid: node.uid.or(base.uid),
        gid: node.gid.or(base.gid),
        ..node
    }
}

/// Sets up a machine; its files are there as long as the directory.
pub fn build(base: &Side, side: &Side) -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let mut recorded = BTreeMap::new();
    let plain = base.iter().filter(|(path, _)| !side.contains_key(*path)).map(|(path, entry)| (path, entry.node()));
    let changed = side.iter().map(|(path, entry)| (path, over(base.get(path), entry)));
    for (path, node) in plain.chain(changed).filter(|(_, node)| !node.absent) {
        put(&root.path().join(path.strip_prefix("/").unwrap()), &node);
        if node.mode.is_some() || node.uid.is_some() || node.gid.is_some() {
            let mode = node.mode.as_deref().unwrap_or(if node.directory { "0755" } else { "0644" });
            let mode = u32::from_str_radix(mode, 8).unwrap();
            let (uid, gid) = (node.uid.unwrap_or(0), node.gid.unwrap_or(0));
            recorded.insert(path.clone(), Attributes { mode, uid, gid });
        }
    }
    let host = Host::captured(root.path(), recorded);
    (root, host)
}

fn put(path: &Path, node: &Node) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    if let Some(target) = &node.link {
        symlink(target, path).unwrap();
    } else if node.directory {
        fs::create_dir_all(path).unwrap();
    } else {
        fs::write(path, node.content.as_deref().unwrap_or_default()).unwrap();
    }
}
