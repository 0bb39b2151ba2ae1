//! A power cut: what is durable at that moment, and what may be left of the rest.

use std::sync::Arc;

use super::SimDisk;
use super::crash::MadeOf;
use super::dice::Dice;
use super::inode::Inode;
use super::profile::{Garbage, Profile};
use super::state::{Body, Directory, Entry, Names, Node, ROOT, State};
use super::torn::{Rubbish, Torn};

/// Everything that images are made of. Its atoms are the name operations, then those of each file.
pub(super) struct Cut {
    /// What is durable, in new numbers: only what has a name, or had one that may come back.
    nodes: Vec<Node>,
    names: Vec<Vec<Entry>>,
    files: Vec<Torn>,
    /// What garbage may show.
    rubbish: Vec<Arc<Vec<u8>>>,
    pub(super) atoms: Vec<Atom>,
    profile: Profile,
    capacity: Option<u64>,
    no_trace: bool,
    boot: u64,
}

/// Something that a power cut decides on its own. Outcome 0 is the durable one.
#[derive(Clone, Copy)]
pub(super) struct Atom {
    pub(super) outcomes: usize,
    pub(super) newest: usize,
}

impl Cut {
    pub(super) fn new(state: &State) -> Cut {
        let numbers = numbers(state);
        let mut nodes = vec![Node::directory(0); numbers.iter().flatten().count()];
        let mut files = Vec::new();
        for (node, number) in state.nodes.iter().zip(&numbers) {
            let Some(number) = *number else { continue };
            if let Body::File(file) = &node.body
                && !file.unsynced.is_empty()
            {
                files.push(Torn::new(number, file, state.profile));
            }
            nodes[number] = durable(node, &numbers);
        }
        let names = state.unsynced.iter().map(|entries| renumbered(entries, &numbers));
        let names = names.filter(|entries| !entries.is_empty()).collect();
        let mut cut = Cut {
            nodes,
            names,
            files,
            rubbish: rubbish(state),
            atoms: Vec::new(),
            profile: state.profile,
            capacity: state.capacity,
            no_trace: state.no_trace,
            boot: Dice::new(state.boot).roll(),
        };
        cut.atoms = cut.all_atoms();
        cut
    }

    fn all_atoms(&self) -> Vec<Atom> {
        let count = self.names.len();
        let names = match self.name_atoms() {
            1 if self.profile.journals_names() => vec![Atom { outcomes: count + 1, newest: count }],
            atoms => vec![Atom { outcomes: 2, newest: 1 }; atoms],
        };
        let files = self.files.iter().flat_map(Torn::atoms);
        names.into_iter().chain(files.map(|(outcomes, newest)| Atom { outcomes, newest })).collect()
    }

    fn name_atoms(&self) -> usize {
        if self.profile.journals_names() { 1 } else { self.names.len() }
    }

    /// The disk with this outcome of each atom; instead of what the profile excludes, with the newest.
    pub(super) fn image(&self, outcomes: &[usize], dice: &mut Dice) -> SimDisk {
        let mut made_of = MadeOf::default();
        let nodes = self.named(outcomes, &mut made_of);
        self.filled(nodes, outcomes, dice, made_of)
    }

    /// As [`Cut::image`], but `None` if the profile excludes an outcome, or if outcomes with lower numbers leave the
    /// same disk.
    pub(super) fn exact_image(&self, outcomes: &[usize], dice: &mut Dice) -> Option<SimDisk> {
        if !self.files(outcomes).all(|(torn, mine)| torn.is_exact(mine)) {
            return None;
        }
        let mut made_of = MadeOf::default();
        let nodes = self.named(outcomes, &mut made_of);
        let is_seen = |node: usize| nodes[node].parent.is_some();
        let exact =
            self.files(outcomes).all(|(torn, mine)| is_seen(torn.node) || mine.iter().all(|n| *n == 0));
        exact.then(|| self.filled(nodes, outcomes, dice, made_of))
    }

    /// Each file that has atoms, and their outcomes.
    fn files<'a>(&'a self, outcomes: &'a [usize]) -> impl Iterator<Item = (&'a Torn, &'a [usize])> {
        let mut rest = &outcomes[self.name_atoms()..];
        self.files.iter().map(move |torn| {
            let (mine, others) = rest.split_at(torn.atoms_len());
            rest = others;
            (torn, mine)
        })
    }

    fn filled(
        &self,
        mut nodes: Vec<Node>,
        outcomes: &[usize],
        dice: &mut Dice,
        mut made_of: MadeOf,
    ) -> SimDisk {
        for (torn, mine) in self.files(outcomes) {
            let node = &mut nodes[torn.node];
            if node.parent.is_some() {
                let mut rubbish = Rubbish { files: &self.rubbish, dice };
                node.body = Body::File(Inode::durable(torn.image(mine, &mut rubbish, &mut made_of)));
            }
        }
        let mut state = State::new(nodes, dice.roll(), self.boot);
        state.profile = self.profile;
        state.capacity = self.capacity;
        state.no_trace = self.no_trace;
        state.made_of = made_of;
        SimDisk::of(state)
    }

    /// The durable nodes, with these outcomes of the name operations.
    fn named(&self, outcomes: &[usize], made_of: &mut MadeOf) -> Vec<Node> {
        let mut nodes = self.nodes.clone();
        for (n, entries) in self.names.iter().enumerate() {
            let kept = if self.profile.journals_names() { n < outcomes[0] } else { outcomes[n] == 1 };
            made_of.lost_names += u32::from(!kept);
            for entry in entries.iter().filter(|_| kept) {
                if let Body::Directory(directory) = &mut nodes[entry.dir].body {
                    entry.put_into(Arc::make_mut(&mut directory.durable));
                }
            }
        }
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            let Body::Directory(directory) = &mut nodes[dir].body else { continue };
            directory.names = Arc::clone(&directory.durable);
            let names = Arc::clone(&directory.durable);
            for node in names.values() {
                nodes[*node].parent = Some(dir);
                if matches!(nodes[*node].body, Body::Directory(_)) {
                    dirs.push(*node);
                }
            }
        }
        nodes
    }
}

/// The new number of each node that may have a name after the cut.
fn numbers(state: &State) -> Vec<Option<usize>> {
    let mut numbers = vec![None; state.nodes.len()];
    let mut next = 0;
    let mut open = vec![ROOT];
    while let Some(node) = open.pop() {
        if numbers[node].is_some() {
            continue;
        }
        numbers[node] = Some(next);
        next += 1;
        if let Body::Directory(directory) = &state.nodes[node].body {
            open.extend(directory.durable.values());
            let entries = state.unsynced.iter().flatten().filter(|entry| entry.dir == node);
            open.extend(entries.filter_map(|entry| entry.node));
        }
    }
    numbers
}

fn durable(node: &Node, numbers: &[Option<usize>]) -> Node {
    let body = match &node.body {
        Body::File(file) => Body::File(Inode::durable(Arc::clone(&file.durable))),
        Body::Directory(directory) => {
            let number = |(name, node): (&Arc<_>, &usize)| Some((Arc::clone(name), numbers[*node]?));
            let names: Names = directory.durable.iter().filter_map(number).collect();
            Body::Directory(Directory { durable: Arc::new(names), ..Directory::default() })
        }
    };
    Node { mode: node.mode, parent: None, body }
}

/// The files that there are and were.
fn rubbish(state: &State) -> Vec<Arc<Vec<u8>>> {
    if state.profile.garbage() == Garbage::None {
        return Vec::new();
    }
    let bytes = state.nodes.iter().filter_map(|node| match &node.body {
        Body::File(file) if !file.durable.is_empty() => Some(Arc::clone(&file.durable)),
        _ => None,
    });
    bytes.collect()
}

/// Entries of directories that are gone for good concern nobody.
fn renumbered(entries: &[Entry], numbers: &[Option<usize>]) -> Vec<Entry> {
    let number = |entry: &Entry| {
        let node = entry.node.and_then(|node| numbers[node]);
        Some(Entry { dir: numbers[entry.dir]?, name: Arc::clone(&entry.name), node })
    };
    entries.iter().filter_map(number).collect()
}
