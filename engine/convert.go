package engine

import (
	"errors"
	"path/filepath"

	"github.com/zlayer-dev/zlayer/frontend/zimage"
)

// ConvertFile gives the Dockerfile that a ZImagefile stands for, or, from a
// Dockerfile, the ZImagefile that stands for it. name is what positions call the
// file, and with the text tells which of the two it is. What the other format
// cannot say is refused, with its place.
func ConvertFile(name string, text []byte) ([]byte, error) {
	if !zimage.IsZImagefile(filepath.Base(name), text) {
		f, err := zimage.FromDockerfile(name, text)
		if err != nil {
			return nil, err
		}
		return zimage.Marshal(f), nil
	}
	f, err := zimage.Parse(name, text)
	if err != nil {
		return nil, err
	}
	d, err := zimage.Convert(f, zimage.Options{})
	if err != nil {
		return nil, err
	}
	if d.Text == nil {
		return nil, inputErrorf("%s describes a WebAssembly build, whose Dockerfile depends on the project that it builds", name)
	}
	return d.Text, nil
}

// FormatFile gives a ZImagefile in its usual form, comments and order kept. A file
// that is no ZImagefile or has mistakes is refused.
func FormatFile(name string, text []byte) ([]byte, error) {
	if !zimage.IsZImagefile(filepath.Base(name), text) {
		return nil, &InputError{Err: errors.New(name + " is not a ZImagefile")}
	}
	if _, err := zimage.Parse(name, text); err != nil {
		return nil, err
	}
	return zimage.Format(text)
}
