package engine

import (
	"reflect"
	"testing"

	"github.com/moby/buildkit/client"
	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/zlayer-dev/zlayer/graph"
	"github.com/zlayer-dev/zlayer/solver"
)

// fullTrace has something in every field.
func fullTrace() *trace {
	return &trace{
		Version: traceVersion, Base: digest.FromString("base"), Outputs: []graph.Key{"o", ""},
		Inputs: []answered{{question{askFile, "b", "about", "more"}, "answer"}, {question{Kind: askTree, About: "\xff"}, "x"}},
		Stages: []tracedStage{
			{ID: "id", Key: "key", Name: "name", Pos: graph.Pos{File: "f", Line: 300, Column: 2, EndLine: 1 << 40},
				Platform: ocispecs.Platform{OS: "windows", Architecture: "amd64", Variant: "v3", OSVersion: "10", OSFeatures: []string{"win32k"}},
				Head:     "head", Steps: []digest.Digest{"one", "two"}},
			{},
		},
		Lint: []*client.VertexWarning{{Short: []byte("lint"), Level: 1}}, Told: []solver.WarningInfo{{Short: "told"}},
	}
}

// TestTraceCode reads back what was written, and nothing of what was cut off.
func TestTraceCode(t *testing.T) {
	for _, tr := range []*trace{fullTrace(), {Version: traceVersion}} {
		data, err := tr.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := decodeTrace(data); !reflect.DeepEqual(got, tr) {
			t.Errorf("got %+v, want %+v", got, tr)
		}
		for n := range data {
			if got := decodeTrace(data[:n]); got != nil {
				t.Errorf("the first %d of %d bytes were read as %+v", n, len(data), got)
			}
		}
		if decodeTrace(append(data, 0)) != nil {
			t.Error("one byte more was read")
		}
	}
	other := fullTrace()
	other.Version++
	if data, err := other.encode(); err != nil || decodeTrace(data) != nil {
		t.Errorf("another version was read: %v", err)
	}
	for _, v := range []any{*fullTrace(), fullTrace().Stages[0], fullTrace().Stages[0].Pos, fullTrace().Stages[0].Platform, fullTrace().Inputs[0]} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if reflect.ValueOf(v).FieldByIndex(f.Index).IsZero() {
				t.Errorf("%T: the test has nothing in field %s", v, f.Name)
			}
		}
	}
}

// FuzzDecodeTrace: whatever is read as a trace is one.
func FuzzDecodeTrace(f *testing.F) {
	for _, tr := range []*trace{fullTrace(), {Version: traceVersion}} {
		data, err := tr.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte{traceVersion, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, data []byte) {
		tr := decodeTrace(data)
		if tr == nil {
			return
		}
		again, err := tr.encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := decodeTrace(again); !reflect.DeepEqual(got, tr) {
			t.Errorf("got %+v, want %+v", got, tr)
		}
	})
}
