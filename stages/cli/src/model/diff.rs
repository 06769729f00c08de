//! `eddy model diff`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use eddy_runtime::bundle::Bundle;
use serde::Serialize;
use toml::{Table, Value};

use crate::output::printable;

/// What is compared.
#[derive(Args, Clone, Debug)]
pub struct DiffArgs {
    /// Folder of a bundle
    pub old: PathBuf,
    /// Folder of another
    pub new: PathBuf,
    /// As one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// A bundle by name.
#[derive(Serialize)]
struct Side {
    bundle: String,
    version: String,
    digest: String,
    onnx_digest: String,
    graph_bytes: usize,
}

/// A field that differs; `None` where it does not stand.
#[derive(Debug, PartialEq, Serialize)]
struct Field {
    field: String,
    old: Option<Value>,
    new: Option<Value>,
}

/// A head that differs.
#[derive(Debug, PartialEq, Serialize)]
struct HeadChange {
    head: String,
    /// `added`, `removed` or `changed`.
    change: &'static str,
    /// What of it changed.
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Difference {
    old: Side,
    new: Side,
    fields: Vec<Field>,
    heads: Vec<HeadChange>,
    /// Whether heads that both have stand in another order.
    order_differs: bool,
    graph_differs: bool,
    /// Vectors are known by their bundle's digest: only those of one bundle are compared.
    vectors_comparable: bool,
}

pub(super) fn run(args: &DiffArgs) -> anyhow::Result<()> {
    let (old, old_table) = read(&args.old)?;
    let (new, new_table) = read(&args.new)?;
    let (heads, order_differs) = heads(&old_table, &new_table);
    let difference = Difference {
        fields: fields(&without_heads(&old_table), &without_heads(&new_table)),
        heads,
        order_differs,
        graph_differs: old.onnx_digest != new.onnx_digest,
        vectors_comparable: old.digest == new.digest,
        old,
        new,
    };
    super::tell(args.json, &difference)
}

/// A bundle that is whole, signed or not, and its manifest as it is written.
fn read(dir: &Path) -> anyhow::Result<(Side, Table)> {
    let Bundle { manifest, digest, onnx } = Bundle::open(dir, &[], true)?;
    let path = dir.join("model.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let side = Side {
        bundle: manifest.name,
        version: manifest.version,
        digest,
        onnx_digest: manifest.onnx_digest,
        graph_bytes: onnx.len(),
    };
    Ok((side, text.parse().with_context(|| path.display().to_string())?))
}

/// The manifest's own fields. The graph's digest is told as the graph.
fn without_heads(manifest: &Table) -> Table {
    let of_manifest = |(key, _): &(&String, &Value)| !matches!(key.as_str(), "head" | "onnx_digest");
    manifest.iter().filter(of_manifest).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn fields(old: &Table, new: &Table) -> Vec<Field> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let differs = |key: &&String| old.get(*key) != new.get(*key);
    let field = |key: &String| Field { field: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() };
    keys.into_iter().filter(differs).map(field).collect()
}

/// Heads by name, in their order, each with every key that has a default.
fn heads_of(manifest: &Table) -> Vec<(String, Table)> {
    let heads = manifest.get("head").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    let named = |head: &Table| {
        let mut head = head.clone();
        head.entry("input").or_insert_with(|| "window".into());
        let name = head.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        (name, head)
    };
    heads.map(named).collect()
}

/// What became of the heads, and whether those of both stand in another order.
fn heads(old: &Table, new: &Table) -> (Vec<HeadChange>, bool) {
    let (old, new) = (heads_of(old), heads_of(new));
    let (by_old, by_new): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (old.iter().cloned().collect(), new.iter().cloned().collect());
    let mut changes = Vec::new();
    for (name, head) in &old {
        let (change, fields) = match by_new.get(name) {
            None => ("removed", Vec::new()),
            Some(other) => ("changed", fields(head, other)),
        };
        if change == "removed" || !fields.is_empty() {
            changes.push(HeadChange { head: name.clone(), change, fields });
        }
    }
    let added = new.iter().filter(|(name, _)| !by_old.contains_key(name));
    changes.extend(added.map(|(name, _)| HeadChange { head: name.clone(), change: "added", fields: Vec::new() }));
    let common = |side: &[(String, Table)], other: &BTreeMap<String, Table>| {
        side.iter().map(|(name, _)| name.clone()).filter(|name| other.contains_key(name)).collect::<Vec<_>>()
    };
    let order_differs = common(&old, &by_new) != common(&new, &by_old);
    (changes, order_differs)
}

/// `field old -> new`.
fn told(field: &Field) -> String {
    let side =
        |value: &Option<Value>| value.as_ref().map_or("absent".to_owned(), |value| printable(&value.to_string()));
    format!("{} {} -> {}", field.field, side(&field.old), side(&field.new))
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, side) in [("old", &self.old), ("new", &self.new)] {
            writeln!(f, "{name}: {} {}, digest {}", side.bundle, printable(&side.version), side.digest)?;
        }
        for field in &self.fields {
            writeln!(f, "{}", told(field))?;
        }
        for HeadChange { head, change, fields } in &self.heads {
            let fields: Vec<String> = fields.iter().map(told).collect();
            let what = if fields.is_empty() { (*change).to_owned() } else { fields.join("; ") };
            writeln!(f, "head {head}: {what}")?;
        }
        if self.order_differs {
            writeln!(f, "heads stand in another order")?;
        }
        let (old, new) = (&self.old, &self.new);
        match self.graph_differs {
            true => writeln!(f, "graph: differs, {} bytes -> {} bytes", old.graph_bytes, new.graph_bytes)?,
            false => writeln!(f, "graph: the same")?,
        }
        match self.vectors_comparable {
            true => write!(f, "vectors: the same bundle, so they stay comparable"),
            false => write!(
                f,
                "vectors: never compared across digests; with the new bundle every series begins a new history"
            ),
        }
    }
}
