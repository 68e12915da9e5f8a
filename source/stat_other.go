//go:build !unix

package source

import (
	"io"
	"io/fs"
	"os"
)

func fromInfo(fi fs.FileInfo) stat {
	s := stat{
		size:  fi.Size(),
		mtime: fi.ModTime().UnixNano(),
		ctime: fi.ModTime().UnixNano(),
		perm:  unixPerm(fi.Mode()),
		kind:  kindFile,
	}
	switch m := fi.Mode(); {
	case m.IsDir():
		s.kind = kindDir
	case m&fs.ModeSymlink != 0:
		s.kind = kindLink
	case m&fs.ModeNamedPipe != 0:
		s.kind = kindFifo
	case m&fs.ModeSocket != 0:
		s.socket, s.size = true, 0
	}
	return s
}

func lstat(path string) (stat, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return stat{}, err
	}
	return fromInfo(fi), nil
}

type openFile struct{ f *os.File }

func openRegular(path string) (openFile, error) {
	f, err := os.Open(path)
	return openFile{f}, err
}

func (f openFile) stat() (stat, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return stat{}, err
	}
	return fromInfo(fi), nil
}

func (f openFile) read(p []byte) (int, error) {
	n, err := f.f.Read(p)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

func (f openFile) close() { f.f.Close() }

func (f openFile) hasXattrs() bool { return false }

func readXattrs(string) (*sum, error) { return nil, nil }

func isLoop(error) bool { return false }

// reliableStat says that stat has change times and inodes, so that an index can be believed.
const reliableStat = false

// isNotDir tells that something above a path is not a directory.
func isNotDir(error) bool { return false }

func otherClock(string) bool { return false }
