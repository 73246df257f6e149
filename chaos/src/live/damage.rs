//! A bit that flips on a disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use qanat_storage::env::sim::Random;

/// Which bit was flipped.
#[derive(Clone, Debug)]
pub struct Flip {
    pub file: PathBuf,
    pub at: u64,
    pub bit: u32,
}

impl Flip {
    /// Flips a bit of a segment below `folder`. `sealed`: of one that is not written to any more, if there is one, else
    /// in the first half of what is there. Bytes that were reserved and not written to are left alone.
    ///
    /// # Errors
    /// If there is no file, or it cannot be written.
    pub fn new(folder: &Path, sealed: bool, random: &Random) -> Result<Self> {
        let mut segments = Vec::new();
        find(folder, &mut segments)?;
        segments.sort();
        let newest = segments.last().cloned().with_context(|| format!("no segment below {}", folder.display()))?;
        let older = segments.len() - 1;
        let file = match sealed && older > 0 {
            true => segments.swap_remove(random.index(older)),
            false => newest,
        };
        let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let at = random.below(if sealed && older == 0 { written / 2 } else { written });
        let bit = u32::try_from(random.below(8))?;
        let flipped = bytes[usize::try_from(at)?] ^ (1 << bit);
        let open = File::options().write(true).open(&file).with_context(|| format!("open {}", file.display()))?;
        open.write_all_at(&[flipped], at).with_context(|| format!("write {}", file.display()))?;
        Ok(Self { file, at, bit })
    }
}

fn find(folder: &Path, segments: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, segments)?;
        } else if path.extension().is_some_and(|ending| ending == "log") {
            segments.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_what_was_written_is_another_one() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("qanat-flip-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("p"))?;
        std::fs::write(folder.join("p/1.log"), [7; 100])?;
        std::fs::write(folder.join("p/2.log"), [[7; 50], [0; 50]].concat())?;
        for (sealed, name) in [(true, "1.log"), (false, "2.log")] {
            let flip = Flip::new(&folder, sealed, &Random::new(3))?;
            let changed = std::fs::read(&flip.file)?.iter().filter(|byte| !matches!(byte, 0 | 7)).count();
            anyhow::ensure!(flip.file.ends_with(name) && changed == 1, "{flip:?}");
        }
        std::fs::remove_dir_all(&folder)?;
        Ok(())
    }
}
