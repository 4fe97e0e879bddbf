//! Names of code that two processes of the same executable share.
//!
//! # Words
//! A function or static is named by its *offset* in the mapped executable. Driver and worker run the
//! same file, so the offset means the same thing in both, wherever each was loaded. Nothing has to be
//! registered, and instances of generic functions have names like all others.
//!
//! # Invariants
//! - **CODE-1 (within the file).** An offset is made only of an address that lies in the executable
//!   that contains this module, and becomes an address again only if it lies in a mapping of the right
//!   kind of that file: code for functions, data for statics.
//! - **CODE-2 (same file).** Offsets travel only between processes that run the same file, and have
//!   proved to each other that they belong to one session.

use std::ops::Range;
use std::sync::OnceLock;

use raybolt_wire::work::Offset;

/// The mappings of this executable.
struct Image {
    base: usize,
    code: Vec<Range<usize>>,
    data: Vec<Range<usize>>,
}

/// Something lies outside of the executable: a function of a library that was loaded at run time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "its code lies in a library that was loaded at run time, which workers do not have; link it into the program"
)]
pub(crate) struct Foreign;

/// The offset of a function.
pub(crate) fn offset_of(function: usize) -> Result<Offset, Foreign> {
    image().offset(&image().code, function)
}

/// The offset of a static.
pub(crate) fn offset_of_static<T>(place: &'static T) -> Result<Offset, Foreign> {
    image().offset(&image().data, std::ptr::from_ref(place) as usize)
}

/// Where a text of the program stands.
pub(crate) fn offset_of_text(text: &'static str) -> Result<(Offset, u16), Foreign> {
    let bytes = u16::try_from(text.len()).map_err(|_| Foreign)?;
    let offset = image().offset(&image().data, text.as_ptr() as usize)?;
    Ok((offset, bytes))
}

/// The text that stands there.
///
/// # Safety
/// The sender made offset and length of a text (CODE-2).
pub(crate) unsafe fn text(offset: Offset, bytes: u16) -> Result<&'static str, Foreign> {
    let image = image();
    let address = image.address(&image.data, offset)?;
    let end = address + usize::from(bytes);
    if !image.data.iter().any(|range| range.contains(&address) && end <= range.end) {
        return Err(Foreign);
    }
    // SAFETY: it lies within a mapping that can be read (CODE-1), and by the caller's promise a text
    // stands there, which never changes.
    let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, usize::from(bytes)) };
    std::str::from_utf8(bytes).map_err(|_| Foreign)
}

/// The function at an offset.
///
/// # Safety
/// `F` is the type of function that the sender made the offset of (CODE-2).
pub(crate) unsafe fn function<F: Copy>(offset: Offset) -> Result<F, Foreign> {
    const { assert!(size_of::<F>() == size_of::<usize>(), "a function pointer") };
    let address = image().address(&image().code, offset)?;
    // SAFETY: the sizes agree, and by the caller's promise the address is that of such a function,
    // of this very file (CODE-1, CODE-2).
    Ok(unsafe { std::mem::transmute_copy::<usize, F>(&address) })
}

/// The static at an offset.
///
/// # Safety
/// `T` is the type of static that the sender made the offset of (CODE-2).
pub(crate) unsafe fn place<T: Sync>(offset: Offset) -> Result<&'static T, Foreign> {
    let address = image().address(&image().data, offset)?;
    // SAFETY: by the caller's promise a `T` lies there, for as long as the program runs.
    Ok(unsafe { &*(address as *const T) })
}

fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Image::parse(&maps, image as *const () as usize)
    })
}

impl Image {
    /// The mappings of the file that contains `anchor`.
    fn parse(maps: &str, anchor: usize) -> Self {
        let mappings: Vec<_> = maps.lines().filter_map(Mapping::parse).collect();
        let own = mappings.iter().find(|mapping| mapping.range.contains(&anchor));
        let path = own.map(|mapping| mapping.path);
        let mut image = Image { base: 0, code: Vec::new(), data: Vec::new() };
        for mapping in mappings.iter().filter(|mapping| Some(mapping.path) == path) {
            if image.base == 0 {
                image.base = mapping.range.start;
            }
            let kind = if mapping.is_code { &mut image.code } else { &mut image.data };
            kind.push(mapping.range.clone());
        }
        image
    }

    fn offset(&self, kind: &[Range<usize>], address: usize) -> Result<Offset, Foreign> {
        if !kind.iter().any(|range| range.contains(&address)) {
            return Err(Foreign);
        }
        u32::try_from(address - self.base).map(Offset).map_err(|_| Foreign)
    }

    fn address(&self, kind: &[Range<usize>], offset: Offset) -> Result<usize, Foreign> {
        let address = self.base.saturating_add(offset.0 as usize);
        kind.iter().any(|range| range.contains(&address)).then_some(address).ok_or(Foreign)
    }
}

/// A line of `/proc/self/maps`.
struct Mapping<'a> {
    range: Range<usize>,
    is_code: bool,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        let is_code = words.next()?.contains('x');
        // Offset, device, inode; then the path, which may hold spaces.
        let path = &line[line.find('/')?..];
        Some(Mapping { range: number(start)?..number(end)?, is_code, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(x: u64) -> u64 {
        2 * x
    }

    static NAME: (u64, &str) = (7, "seven");

    #[test]
    fn functions_and_statics_are_found_again() {
        let offset = offset_of(twice as *const () as usize).unwrap();
        // SAFETY: the offset is that of a function of this type.
        let found = unsafe { function::<fn(u64) -> u64>(offset) }.unwrap();
        assert_eq!(found(21), 42);
        let offset = offset_of_static(&NAME).unwrap();
        // SAFETY: the offset is that of a static of this type.
        assert_eq!(unsafe { place::<(u64, &str)>(offset) }.unwrap(), &NAME);
        let (offset, bytes) = offset_of_text("a text").unwrap();
        // SAFETY: they are those of a text.
        assert_eq!(unsafe { text(offset, bytes) }, Ok("a text"));
    }

    #[test]
    fn what_lies_elsewhere_has_no_name() {
        let local = 3_u64;
        assert_eq!(offset_of(std::ptr::from_ref(&local) as usize), Err(Foreign));
        // SAFETY: refused before it is used.
        assert!(unsafe { function::<fn()>(Offset(u32::MAX)) }.is_err());
        let data = offset_of_static(&NAME).unwrap();
        // SAFETY: refused before it is used: a static is no code.
        assert!(unsafe { function::<fn()>(data) }.is_err());
    }

    #[test]
    fn the_mappings_of_one_file_are_told_from_others() {
        let maps = "1000-2000 r--p 00000000 08:01 7 /bin/a b\n2000-3000 r-xp 00001000 08:01 7 /bin/a b\n\
                    3000-4000 rw-p 00002000 08:01 7 /bin/a b\n5000-6000 r-xp 00000000 08:01 8 /lib/c\n7000-8000 rw-p 00000000 00:00 0\n";
        let image = Image::parse(maps, 0x2800);
        assert_eq!(image.base, 0x1000);
        assert_eq!(image.code.as_slice(), std::slice::from_ref(&(0x2000..0x3000)));
        assert_eq!(image.data, [0x1000..0x2000, 0x3000..0x4000]);
    }
}
