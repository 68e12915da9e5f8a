//go:build unix && !linux

package source

// mayHaveXattrs is false if there are certainly no extended attributes.
func mayHaveXattrs(int) bool { return true }

// otherClock tells whether the times of files in a directory come from the clock
// of another machine, or may.
func otherClock(string) bool { return false }
