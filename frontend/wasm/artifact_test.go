package wasm

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestPack(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		opt  PackOptions
	}{
		{"module", wasiModule(), PackOptions{Name: "app", Annotations: map[string]string{"z": "1", "a": "2", "m": "3"}}},
		{"component", httpComponent(), PackOptions{
			Name: "handler.wasm", World: "zlayer-http-handler", Created: time.Unix(1700000000, 0).In(time.FixedZone("x", 3600)),
			Annotations: map[string]string{ocispecs.AnnotationTitle: "Handler"},
		}},
		{"nameless", moduleHead, PackOptions{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			info, err := Inspect(c.data)
			if err != nil {
				t.Fatal(err)
			}
			a, err := Pack(c.data, info, c.opt)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/pack/"+c.name+".json", string(a.Manifest)+"\n"+string(a.Config)+"\n")
			for range 20 { // maps come in any order
				if b, err := Pack(c.data, info, c.opt); err != nil || !bytes.Equal(a.Manifest, b.Manifest) || !bytes.Equal(a.Config, b.Config) {
					t.Fatalf("packed again it differs: %v", err)
				}
			}
			var m ocispecs.Manifest
			if err := json.Unmarshal(a.Manifest, &m); err != nil {
				t.Fatal(err)
			}
			l, err := Layer(m)
			if err != nil || l.Digest != digest.FromBytes(c.data) || m.Config.Digest != digest.FromBytes(a.Config) || a.Descriptor.Digest != digest.FromBytes(a.Manifest) {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
	if len(PackOptions{}.Annotations) != 0 {
		t.Error("the options' annotations changed")
	}
}

// TestLayer finds the binary in artifacts of other tools as well.
func TestLayer(t *testing.T) {
	for _, c := range []struct {
		types []string
		ok    bool
	}{
		{[]string{"application/wasm"}, true},
		{[]string{"application/vnd.wasm.content.layer.v1+wasm", "text/plain"}, true},
		{[]string{"application/vnd.oci.image.layer.v1.tar+gzip"}, false},
		{[]string{"application/wasm", "application/wasm"}, false},
	} {
		var m ocispecs.Manifest
		for _, mt := range c.types {
			m.Layers = append(m.Layers, ocispecs.Descriptor{MediaType: mt})
		}
		if _, err := Layer(m); (err == nil) != c.ok {
			t.Errorf("%v: %v", c.types, err)
		}
	}
}
