package lazyregexp

import "testing"

func TestNew(t *testing.T) {
	digits := New(`^[0-9]+$`)
	if first, again := digits(), digits(); first != again {
		t.Error("an expression was compiled twice")
	}
	if !digits().MatchString("42") || digits().MatchString("4a") {
		t.Error("the expression is not the one asked for")
	}
}

// An expression that does not parse is a mistake of the program, and says so where it is used.
func TestNewPanics(t *testing.T) {
	broken := New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	broken()
}
