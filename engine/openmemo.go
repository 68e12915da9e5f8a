package engine

import (
	"path/filepath"

	"github.com/zlayer-dev/zlayer/solver/memo"
)

// defaultMemo is the memo when none is asked for.
const defaultMemo = "local"

// openMemo gives the memo that spec describes in the form of the flag --memo; empty is
// that of the configuration. Nothing is contacted before it is
// asked for something; trouble with it goes to warn.
func (e *Engine) openMemo(spec []string, warn func(error)) (memo.Store, error) {
	if len(spec) == 0 {
		spec = e.memoSpec()
	}
	c, err := memo.Parse(spec...)
	if err != nil {
		return nil, &InputError{Err: err}
	}
	around := memo.Surroundings{Warn: warn}
	if dir := e.stateDir(); dir != "" {
		around.Dir = filepath.Join(dir, "memo")
	}
	s, err := c.Open(around)
	if err != nil {
		return nil, &InputError{Err: err}
	}
	return s, nil
}

// memoSpec is the memo in the form of the flag.
func (e *Engine) memoSpec() []string {
	if len(e.cfg.Memo) == 0 {
		return []string{defaultMemo}
	}
	return e.cfg.Memo
}
