package engine

import (
	"errors"
	"os"
	"strings"

	"github.com/hashicorp/go-multierror"

	"github.com/zlayer-dev/zlayer/graph"
)

// withGoSource gives mistakes that point into Go, see package dag, the text of the file
// for an excerpt. It is not there where the program runs without its sources.
func withGoSource(err error) error {
	var list *multierror.Error
	if errors.As(err, &list) {
		for _, e := range list.Errors {
			_ = withGoSource(e)
		}
		return err
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			_ = withGoSource(e)
		}
		return err
	}
	var pe *graph.PosError
	if errors.As(err, &pe) && len(pe.Source) == 0 {
		pe.Source = goSource(pe.Pos)
	}
	return err
}

// goSource is the file of Go that a position is in; nil for other files.
func goSource(pos graph.Pos) []byte {
	if !strings.HasSuffix(pos.File, ".go") {
		return nil
	}
	text, err := os.ReadFile(pos.File)
	if err != nil {
		return nil
	}
	return text
}
