// Package source computes content digests of local directories: of what a build
// would take from them, before any daemon is asked.
//
// [Trees] holds what one run knows of the disk. Every directory is read at most
// once per run, when somebody asks for something below it, and files are hashed
// at most once, when a selection contains them. A [View] is a directory seen
// through the ignore, include and follow patterns of a BuildKit local source; it
// holds exactly what BuildKit's client would send for that source. A [Selection]
// is what one operation takes from a view.
//
// # What counts
//
// An entry counts by its path relative to the view, its type, its permission
// bits (with setuid, setgid and sticky), the target of a link, its bytes, its
// device numbers, and the extended attributes that BuildKit's own content hash
// counts (security.capability, and all outside of the security and system name
// spaces). Times, inodes, owners and absolute paths do not count, and neither do
// the mode of the view's own root and the directories above a selection: none of
// them reaches an image. A socket is the empty file that BuildKit makes of it. A
// file with several hard links counts by its content like any other; that several
// selected paths are the same file counts, too, because a layer says so. Links to
// the file from elsewhere do not count.
//
// # The stat index
//
// Digests of files are kept between runs in a stat index, one for each directory
// that a view was asked of, under its device and inode, so that a directory that
// was moved stays warm. A digest is believed while size, modification and change
// time, inode and mode are what they were, unless the file was changed so shortly
// before it was hashed that a second change could have got the same times. An
// index that is damaged, foreign or lost costs time, never correctness.
//
// The index also remembers what BuildKit cannot see: see [Trees.SyncID].
package source
