package memo_test

import (
	"path/filepath"
	"testing"

	"github.com/zlayer-dev/zlayer/solver/memo"
	"github.com/zlayer-dev/zlayer/solver/memo/memotest"
)

func openDir(t *testing.T) memo.Store {
	return &memo.Dir{Path: filepath.Join(t.TempDir(), "memo")}
}

func TestDir(t *testing.T) { memotest.Conformance(t, openDir) }
