package engine

import (
	"fmt"
	"os"

	"github.com/moby/buildkit/client"
)

// refuseFile refuses a file where an output makes a directory.
func refuseFile(o Output) error {
	if isFile(o.Dest) {
		return inputErrorf("output %s: %s is a file: name a directory", o.Type, o.Dest)
	}
	return nil
}

// writeError tells why a directory that is exported to cannot be written, nil if it
// can: BuildKit's client keeps the reason to itself.
func (o *outputs) writeError() error {
	for _, e := range o.exports {
		if e.Type != client.ExporterLocal {
			continue
		}
		if err := tryWrite(e.OutputDir); err != nil {
			return fmt.Errorf("writing to %s: %w", e.OutputDir, err)
		}
	}
	return nil
}

// tryWrite writes as much as a full disk cannot take.
func tryWrite(dir string) error {
	f, err := os.CreateTemp(dir, ".zlayer-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		return err
	}
	return f.Sync()
}
