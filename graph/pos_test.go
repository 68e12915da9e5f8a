package graph

import (
	"errors"
	"fmt"
	"testing"
)

func TestPosString(t *testing.T) {
	for _, tt := range []struct {
		pos  Pos
		want string
	}{
		{Pos{}, ""},
		{Pos{File: "Dockerfile"}, "Dockerfile"},
		{Pos{File: "Dockerfile", Line: 3}, "Dockerfile:3"},
		{Pos{File: "Dockerfile", Line: 3, Column: 7, EndLine: 9}, "Dockerfile:3:7"},
		{Pos{File: "Dockerfile", Column: 7}, "Dockerfile"},
		{Pos{Line: 3}, "3"},
	} {
		if got := tt.pos.String(); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.pos, got, tt.want)
		}
		if tt.pos.IsZero() != (tt.pos == Pos{}) {
			t.Errorf("%+v: IsZero is wrong", tt.pos)
		}
	}
}

func TestPosError(t *testing.T) {
	cause := errors.New("unknown instruction FORM")
	pos := Pos{File: "Dockerfile", Line: 1}
	err := fmt.Errorf("compiling: %w", &PosError{Pos: pos, Err: cause})
	if got, want := err.Error(), "compiling: Dockerfile:1: unknown instruction FORM"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, ok := ErrorPos(err); !ok || got != pos {
		t.Errorf("got position %v, %v", got, ok)
	}
	if !errors.Is(err, cause) {
		t.Error("the mistake is not wrapped")
	}
	if _, ok := ErrorPos(cause); ok {
		t.Error("an error without position has one")
	}
	if got := (&PosError{Err: cause}).Error(); got != cause.Error() {
		t.Errorf("got %q", got)
	}
}
