package flags

import (
	"errors"
	"fmt"

	units "github.com/docker/go-units"
)

// ParseSize reads a number of bytes with an optional unit: b, k, m, g, t, p, in
// powers of 1024.
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	switch {
	case err != nil:
		return 0, errors.New("not a size: write a number with b, k, m or g, such as 64m")
	case n < 0:
		return 0, errors.New("the size is negative")
	}
	return n, nil
}

// ParseUlimit checks NAME=SOFT[:HARD] and gives it back with both limits.
func ParseUlimit(s string) (string, error) {
	u, err := units.ParseUlimit(s)
	if err != nil {
		return "", fmt.Errorf("%w: write NAME=SOFT[:HARD], such as nofile=1024:2048", err)
	}
	return u.String(), nil
}
